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
from fsm_core.postgres.flows import look, operate
from fsm_core.postgres.flows import start as starting
from fsm_core.postgres.store import LOCK_TIMEOUT
from fsm_core.types import ActionId, ActionRecord, HistoryEntry, Key, MachineRecord, Snapshot, key_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
    from datetime import timedelta

    from sqlalchemy.ext.asyncio import AsyncEngine

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
        flow = partial(
            starting.start, starting.Birth(self.registry, machine, name, state, self._limits, wait)
        )
        return await self._once(f"start {machine.name}/{name}", flow, session)

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
            return await self._run(connection, partial(advancing.advance, call, locked=True), call.what)
        async for attempt in AsyncRetrying(**self._policy()):
            with attempt:
                return await self._advance_own(call)
        raise AssertionError  # pragma: no cover - AsyncRetrying returns or raises

    async def get(self, machine: Machine[S, E, A], key: Key) -> Snapshot[S]:
        """As `PostgresStore.get`."""
        self.registry.add(machine)
        text = key_text(key)
        return await self._once(
            f"get {machine.name}/{text}", partial(look.get, self.registry, machine.name, text)
        )

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

    async def retry(self, action_ids: Sequence[ActionId]) -> list[ActionId]:
        """As `PostgresStore.retry`."""
        return await self._once("retry", partial(operate.retry, action_ids), in_transaction=True)

    async def cancel(self, machine: AnyMachine | str, key: Key, note: str = "cancelled by hand") -> int:
        """As `PostgresStore.cancel`."""
        flow = partial(operate.cancel_machine, name_of(machine), key_text(key), note)
        return await self._once("cancel", flow, in_transaction=True)

    async def cancel_action(self, action_id: ActionId, note: str = "cancelled by hand") -> None:
        """As `PostgresStore.cancel_action`."""
        await self._once("cancel", partial(operate.cancel_action, action_id, note), in_transaction=True)

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
        in_transaction: bool = False,
    ) -> T:
        if session is not None:
            return await self._run(await joined.async_connection(session), flow, what)
        async for attempt in AsyncRetrying(**self._policy()):
            with attempt:
                async with self._connected(what) as connection:
                    if not in_transaction:
                        return await self._run(connection, flow, what)
                    async with connection.transaction():
                        await self._run(connection, self._lock_timeout, what)
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
