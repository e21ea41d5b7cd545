"""The asynchronous store: the same flows, awaited."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from tenacity import AsyncRetrying

from fsm_core.errors import DatabaseUnavailable, UnsupportedConnection
from fsm_core.postgres import joined
from fsm_core.postgres.ask import Ask, run_async
from fsm_core.postgres.base import Base, name_of
from fsm_core.postgres.failures import from_sqlalchemy
from fsm_core.postgres.flows import advance as advancing
from fsm_core.postgres.flows import audit, look, operate
from fsm_core.postgres.flows import start as starting
from fsm_core.postgres.flows.alone import Alone
from fsm_core.postgres.store import LOCK_TIMEOUT
from fsm_core.types import (
    ActionId,
    ActionRecord,
    Decision,
    HistoryEntry,
    Key,
    MachineRecord,
    Snapshot,
    key_text,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
    from datetime import timedelta
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from fsm_core.audit import Diff, Log, Orphan
    from fsm_core.codec import Limits
    from fsm_core.machine import Machine
    from fsm_core.registry import AnyEffects, AnyMachine

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")
T = TypeVar("T")


class AsyncPostgresStore(Base):
    """As `PostgresStore`, on an AsyncEngine (postgresql+psycopg): every verb is awaited, and means the same."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        machines: Iterable[AnyMachine | AnyEffects] = (),
        schema: str = "fsm",
        limits: Limits | None = None,
        lock_timeout: timedelta = LOCK_TIMEOUT,
    ) -> None:
        if not engine.dialect.is_async or engine.dialect.driver != "psycopg":
            raise UnsupportedConnection(
                "AsyncPostgresStore takes an AsyncEngine on postgresql+psycopg:// (psycopg 3)"
            )
        super().__init__(
            engine.url, machines=machines, schema=schema, limits=limits, lock_timeout=lock_timeout
        )
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def start(
        self,
        machine: Machine[S, E, A],
        key: Key | None = None,
        state: S | None = None,
        *,
        session: joined.AsyncTransaction | None = None,
    ) -> Snapshot[S]:
        """As `PostgresStore.start`; `session` is an AsyncSession, AsyncConnection or psycopg AsyncConnection."""
        name = self._started(machine, key)
        wait = self._lock_wait if session is None else None
        call = starting.Birth(self.registry, machine, name, state, self._limits, wait)
        if session is not None:
            return await self._once(call.what, partial(starting.start, call, locked=True, own=False), session)
        try:
            return await self._once(call.what, partial(starting.start, call, locked=False))
        except Alone:
            flow = partial(starting.start, call, locked=True)
            return await self._once(call.what, flow, opening=self._lock_timeout)

    async def advance(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        expected_seq: int | None = None,
        session: joined.AsyncTransaction | None = None,
    ) -> Snapshot[S]:
        """As `PostgresStore.advance`; `session` is an AsyncSession, AsyncConnection or psycopg AsyncConnection."""
        call = self._call(machine, key, event, dedup_key, expected_seq)
        if session is not None:
            connection = await joined.async_connection(session)
            flow = partial(advancing.advance, call, locked=True, own=False)
            return await self._run(connection, flow, call.what)
        async for attempt in AsyncRetrying(**self._policy()):
            with attempt:
                return await self._advance_own(call)
        raise AssertionError  # pragma: no cover - AsyncRetrying returns or raises

    async def preview(self, machine: Machine[S, E, A], key: Key, event: E) -> Decision[S, A]:
        """As `PostgresStore.preview`."""
        self.registry.add(machine)
        text = key_text(key)
        flow = partial(audit.dry_run, self.registry, machine.name, text, event, self._limits)
        return await self._once(f"preview {machine.name}/{text}", flow)

    async def get(self, machine: Machine[S, E, A], key: Key) -> Snapshot[S]:
        """As `PostgresStore.get`."""
        self.registry.add(machine)
        text = key_text(key)
        return await self._once(
            f"get {machine.name}/{text}", partial(look.get, self.registry, machine.name, text)
        )

    async def state_at(self, machine: Machine[S, E, A], key: Key, seq: int) -> Snapshot[S]:
        """As `PostgresStore.state_at`."""
        self.registry.add(machine)
        flow = partial(audit.at, self.registry, machine.name, key_text(key), seq)
        return await self._once(f"state of {machine.name}/{key} at {seq}", flow, opening=audit.one_snapshot)

    async def diff(self, machine: Machine[S, E, A], key: Key, from_seq: int, to_seq: int) -> Diff[S]:
        """As `PostgresStore.diff`."""
        self.registry.add(machine)
        flow = partial(audit.between, self.registry, machine.name, key_text(key), from_seq, to_seq)
        return await self._once(f"diff {machine.name}/{key}", flow, opening=audit.one_snapshot)

    async def history(self, machine: AnyMachine | str, key: Key) -> list[HistoryEntry]:
        """As `PostgresStore.history`."""
        return await self._once("history", partial(look.history, name_of(machine), key_text(key)))

    async def record(self, machine: AnyMachine | str, key: Key) -> MachineRecord:
        """As `PostgresStore.record`."""
        return await self._once("record", partial(look.record, name_of(machine), key_text(key)))

    async def machines(
        self,
        name: str | None = None,
        *,
        status: str | None = None,
        state: str | None = None,
        limit: int = 100,
    ) -> list[MachineRecord]:
        """As `PostgresStore.machines`."""
        return await self._once("machines", partial(look.machines, name, status, state, limit))

    async def actions(
        self,
        *,
        status: str | None = None,
        machine: str | None = None,
        key: Key | None = None,
        action: str | None = None,
        queue: str | None = None,
        limit: int = 100,
    ) -> list[ActionRecord]:
        """As `PostgresStore.actions`."""
        text = None if key is None else key_text(key)
        flow = partial(
            look.actions, status=status, name=machine, key=text, action=action, queue=queue, limit=limit
        )
        return await self._once("actions", flow)

    async def action(self, action_id: ActionId) -> ActionRecord:
        """As `PostgresStore.action`."""
        return await self._once("action", partial(look.action, action_id))

    async def log(self, machine: AnyMachine | str, key: Key) -> Log:
        """As `PostgresStore.log`."""
        flow = partial(audit.log, name_of(machine), key_text(key))
        return await self._once("log", flow, opening=audit.one_snapshot)

    async def logs(
        self, names: Sequence[str] | None = None, *, since: timedelta | None = None, after: UUID | None = None
    ) -> list[Log]:
        """As `PostgresStore.logs`."""
        return await self._once("logs", partial(audit.logs, names, since, after), opening=audit.one_snapshot)

    async def count(self, names: Sequence[str] | None = None, *, since: timedelta | None = None) -> int:
        """As `PostgresStore.count`."""
        return await self._once("count", partial(audit.count, names, since))

    async def orphans(self, after: UUID | None = None, to: UUID | None = None) -> list[Orphan]:
        """As `PostgresStore.orphans`."""
        return await self._once("orphans", partial(audit.orphans, after, to))

    async def retry(self, action_ids: Sequence[ActionId]) -> list[ActionId]:
        """As `PostgresStore.retry`."""
        return await self._once("retry", partial(operate.retry, action_ids), opening=self._lock_timeout)

    async def restore(self, machine: Machine[S, E, A], key: Key) -> list[ActionId]:
        """As `PostgresStore.restore`."""
        self.registry.add(machine)
        flow = partial(audit.restore, self.registry, machine.name, key_text(key))
        return await self._once(f"restore {machine.name}/{key}", flow, opening=self._lock_timeout)

    async def cancel(self, machine: AnyMachine | str, key: Key, note: str = "cancelled by hand") -> int:
        """As `PostgresStore.cancel`."""
        flow = partial(operate.cancel_machine, name_of(machine), key_text(key), note)
        return await self._once("cancel", flow, opening=self._lock_timeout)

    async def cancel_action(self, action_id: ActionId, note: str = "cancelled by hand") -> None:
        """As `PostgresStore.cancel_action`."""
        await self._once(
            "cancel", partial(operate.cancel_action, action_id, note), opening=self._lock_timeout
        )

    async def _advance_own(self, call: advancing.Call) -> Snapshot[Any]:
        async with self._connected(call.what) as connection:
            if call.tried_at is None and not self._is_hot(call):
                try:
                    return await self._run(
                        connection, partial(advancing.advance, call, locked=False), call.what
                    )
                except advancing.Conflict:
                    call.tried_at = None
                    self._heat(call)
            async with connection.transaction():
                await self._run(connection, self._lock_timeout, call.what)
                return await self._run(connection, partial(advancing.advance, call, locked=True), call.what)

    async def _once(
        self,
        what: str,
        flow: Callable[[], Coroutine[Ask[Any], Any, T]],
        session: joined.AsyncTransaction | None = None,
        *,
        opening: Callable[[], Coroutine[Ask[Any], Any, None]] | None = None,
    ) -> T:
        if session is not None:
            return await self._run(await joined.async_connection(session), flow, what)
        async for attempt in AsyncRetrying(**self._policy()):
            with attempt:
                async with self._connected(what) as connection:
                    if opening is None:
                        return await self._run(connection, flow, what)
                    async with connection.transaction():
                        await self._run(connection, opening, what)
                        return await self._run(connection, flow, what)
        raise AssertionError  # pragma: no cover - AsyncRetrying returns or raises

    @asynccontextmanager
    async def _connected(self, what: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        with from_sqlalchemy(what, self._engine.url):
            async with self._autocommit.connect() as connection:
                driver = (await connection.get_raw_connection()).driver_connection
                assert isinstance(driver, psycopg.AsyncConnection)  # noqa: S101 - the stores check their engine
                try:
                    yield driver
                except (DatabaseUnavailable, psycopg.OperationalError):
                    if driver.closed:
                        await connection.invalidate()
                        await self._engine.dispose()
                    raise

    async def _run(
        self,
        connection: psycopg.AsyncConnection[Any],
        flow: Callable[[], Coroutine[Ask[Any], Any, T]],
        what: str,
    ) -> T:
        with self._told(what):
            return await run_async(connection, self.schema, flow())
