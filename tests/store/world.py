"""One face for every store, so that the conformance suite is written once."""

import asyncio
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from fsm_core import ActionStatus
from fsm_core.memory import AsyncMemoryStore, MemoryStore
from fsm_core.memory.tables import ActionRow
from fsm_core.payload import RESERVED, SEALED
from fsm_core.postgres import AsyncPostgresStore, Cipher, PostgresStore
from fsm_core.unit import Held
from tests.waiting import eventually

TABLES = (
    "machines", "events", "actions", "attempts", "inbox", "dedup", "snapshots", "workers", "limits", "buckets",
)  # fmt: skip


class Blocking:
    """A synchronous face for an asynchronous store: each verb runs on a loop of its own thread."""

    def __init__(self, store: AsyncPostgresStore | AsyncMemoryStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store, self._loop = store, loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self._store, name)

        def call(*args: Any, **options: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(verb(*args, **options), self._loop).result(60)

        return call


class World(ABC):
    """A store, and a way to look at its rows and to change them behind its back. `store` acts like a PostgresStore."""

    store: Any

    @abstractmethod
    def contents(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that the store keeps, by table; the inbox in its order."""

    @abstractmethod
    def change_actions(self, idx: int | None = None, **columns: Any) -> None:
        """Change these columns of the actions whose index is `idx` (None: of all). JSON is given as text."""

    @abstractmethod
    def change_state(self, state: str) -> None:
        """Change the JSON of every machine's state."""

    @abstractmethod
    def pass_time(self, span: timedelta) -> None:
        """Wait until the store's clock has gone on by `span`; a virtual one is told to."""

    @abstractmethod
    def fill_inbox(self, machine: UUID, name: str, payload: str, times: int) -> None:
        """Hold an event for a machine, `times` times."""


@dataclass(frozen=True)
class PostgresWorld(World):
    """A store with a database behind it, and SQL beside it."""

    store: Any
    url: str
    cipher: Cipher | None = None

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own; its rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            read = sql.SQL("SELECT t.* FROM fsm.{} t ORDER BY t::text")
            rows = {name: connection.execute(read.format(sql.Identifier(name))).fetchall() for name in TABLES}
        return {name: [self._opened(row) for row in found] for name, found in rows.items()}

    def _opened(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row as it would be if nothing were encrypted, but for the digests of dedup keys."""
        if self.cipher is None:
            return row
        whose = row.get("machine_id", row.get("id"))
        shown = {}
        for column, value in row.items():
            if isinstance(value, dict) and RESERVED in value:
                shown[column] = json.loads(self.cipher.open(f'{SEALED}{value[RESERVED]}"}}', whose))
            else:
                is_text = isinstance(value, str) and value.startswith(SEALED)
                shown[column] = self.cipher.open(value, whose) if is_text else value
        return shown

    def change_actions(self, idx: int | None = None, **columns: Any) -> None:
        changes = ", ".join(f"{column} = %s" for column in columns)
        self.sql(f"UPDATE fsm.actions SET {changes} WHERE idx = coalesce(%s, idx)", *columns.values(), idx)

    def change_state(self, state: str) -> None:
        self.sql("UPDATE fsm.machines SET state = %s", state)

    def pass_time(self, span: timedelta) -> None:
        (start,) = self.sql("SELECT clock_timestamp() + %s::interval", span)[0]
        eventually(lambda: self.sql("SELECT clock_timestamp()")[0][0] >= start, what="time has passed")

    def fill_inbox(self, machine: UUID, name: str, payload: str, times: int) -> None:
        self.sql(
            "INSERT INTO fsm.inbox (machine_id, name, payload, version, source, received_at)"
            " SELECT %s, %s, %s, 1, 'call', now() FROM generate_series(1, %s)",
            machine, name, payload, times,
        )  # fmt: skip
        self.sql("UPDATE fsm.machines SET inbox = inbox + %s, rev = rev + 1", times)


@dataclass(frozen=True)
class MemoryWorld(World):
    """A store in memory; `origin` is the MemoryStore whose rows it is on."""

    store: Any
    origin: MemoryStore

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        tables = self.origin._tables
        return {
            "machines": [_shown(row) for row in tables.machines.values()],
            "events": [_shown(row) for rows in tables.events.values() for row in rows],
            "actions": [_shown(row) for row in tables.actions.values()],
            "attempts": [_shown(row) for rows in tables.attempts.values() for row in rows.values()],
            "inbox": [_shown(held) for rows in tables.inbox.values() for held in rows],
            "dedup": [{"of": of, **asdict(row)} for of, row in tables.dedup.items()],
        }

    def change_actions(self, idx: int | None = None, **columns: Any) -> None:
        for row in self.origin._tables.actions.values():
            if idx in (None, row.id.idx):
                for column, value in columns.items():
                    setattr(row, column, ActionStatus(value) if column == "status" else value)

    def change_state(self, state: str) -> None:
        for row in self.origin._tables.machines.values():
            row.state = state

    def pass_time(self, span: timedelta) -> None:
        self.origin.clock.advance(span)

    def fill_inbox(self, machine: UUID, name: str, payload: str, times: int) -> None:
        tables = self.origin._tables
        for _ in range(times):
            held = Held(tables.next_number(), name, payload, 1, "call", None, None, None)
            tables.inbox[machine].append(held)


def _shown(row: Any) -> dict[str, Any]:
    """A row with its JSON read, as a database shows it."""
    shown = row._asdict() if isinstance(row, Held) else asdict(row)
    if isinstance(row, ActionRow):
        shown |= shown.pop("id")._asdict()
    for column in ("state", "payload", "outcome", "error"):
        if isinstance(shown.get(column), str) and shown[column].startswith("{"):
            shown[column] = json.loads(shown[column])
    return shown


def plain(url: str) -> str:
    """The address as psycopg reads it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def sync_world(url: str, **options: Any) -> Iterator[PostgresWorld]:
    engine = create_engine(url, **options.pop("engine", {}))
    try:
        yield PostgresWorld(PostgresStore(engine, **options), plain(url), options.get("cipher"))
    finally:
        engine.dispose()


@contextmanager
def async_world(url: str, **options: Any) -> Iterator[PostgresWorld]:
    engine = create_async_engine(url, **options.pop("engine", {}))
    with running_loop() as loop:
        try:
            store = AsyncPostgresStore(engine, **options)
            yield PostgresWorld(Blocking(store, loop), plain(url), options.get("cipher"))
        finally:
            asyncio.run_coroutine_threadsafe(engine.dispose(), loop).result(30)


@contextmanager
def memory_world(origin: MemoryStore, **options: Any) -> Iterator[MemoryWorld]:
    """What concerns a database among the options has no meaning here."""
    store = origin.reopen(*options.get("machines", ()), limits=options.get("limits"))
    yield MemoryWorld(store, origin)


@contextmanager
def async_memory_world(origin: MemoryStore, **options: Any) -> Iterator[MemoryWorld]:
    store = origin.reopen(*options.get("machines", ()), limits=options.get("limits"))
    with running_loop() as loop:
        yield MemoryWorld(Blocking(AsyncMemoryStore(store), loop), origin)


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="store-loop")
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    """As `asyncio.run` does at its end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


WORLDS = {"sync": sync_world, "async": async_world}
"""The stores on PostgreSQL."""

SEALED_WORLDS = {"sealed": partial(sync_world, cipher=Cipher({"new": bytes(32), "old": bytes([1] * 32)}))}
"""The store on PostgreSQL whose payloads are encrypted. How it asks asynchronously is tested apart."""

MEMORY_WORLDS = {"memory": memory_world, "async memory": async_memory_world}
"""The stores without a database."""
