"""One face for every store, so that the conformance suite is written once."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from fsm_core.postgres import AsyncPostgresStore, PostgresStore

TABLES = (
    "machines", "events", "actions", "attempts", "inbox", "dedup", "snapshots", "workers", "limits", "buckets",
)  # fmt: skip


class Blocking:
    """A synchronous face for an asynchronous store: each verb runs on a loop of its own thread."""

    def __init__(self, store: AsyncPostgresStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store, self._loop = store, loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self._store, name)

        def call(*args: Any, **options: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(verb(*args, **options), self._loop).result(60)

        return call


@dataclass(frozen=True)
class World:
    """A store with a database behind it, and SQL beside it. `store` is a PostgresStore, or acts like one."""

    store: Any
    url: str

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own; its rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that the store keeps."""
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            read = sql.SQL("SELECT t.* FROM fsm.{} t ORDER BY t::text")
            return {name: connection.execute(read.format(sql.Identifier(name))).fetchall() for name in TABLES}


def plain(url: str) -> str:
    """The address as psycopg reads it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def sync_world(url: str, **options: Any) -> Iterator[World]:
    engine = create_engine(url, **options.pop("engine", {}))
    try:
        yield World(PostgresStore(engine, **options), plain(url))
    finally:
        engine.dispose()


@contextmanager
def async_world(url: str, **options: Any) -> Iterator[World]:
    engine = create_async_engine(url, **options.pop("engine", {}))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="store-loop")
    thread.start()
    try:
        yield World(Blocking(AsyncPostgresStore(engine, **options), loop), plain(url))
    finally:
        asyncio.run_coroutine_threadsafe(engine.dispose(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


WORLDS = {"sync": sync_world, "async": async_world}
