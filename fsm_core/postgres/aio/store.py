"""The asynchronous store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fsm_core.inputs import checked_place
from fsm_core.postgres import joined
from fsm_core.postgres.aio.operating import AsyncOperating
from fsm_core.postgres.flows import advance as advancing
from fsm_core.postgres.flows import many as advancing_many
from fsm_core.postgres.flows import signal as signalling
from fsm_core.postgres.flows import start as starting
from fsm_core.postgres.flows.alone import Alone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from fsm_core.errors import NotFound, Refused
    from fsm_core.machine import Machine
    from fsm_core.records import Receipt, Snapshot
    from fsm_core.types import Key

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")
T = TypeVar("T")


class AsyncPostgresStore(AsyncOperating):
    """As `PostgresStore`, on an AsyncEngine (postgresql+psycopg): every verb is awaited, and means the same."""

    async def start(
        self,
        machine: Machine[S, E, A],
        key: Key | None = None,
        state: S | None = None,
        *,
        partition_key: str | None = None,
        priority: int | None = None,
        at: datetime | None = None,
        session: joined.AsyncTransaction | None = None,
    ) -> Snapshot[S]:
        """As `PostgresStore.start`; `session` is an AsyncSession, AsyncConnection or psycopg AsyncConnection."""
        name = self._started(machine, key)
        wait = self._lock_wait if session is None else None
        checked_place(partition_key, priority, at)
        place = (partition_key, priority, at)
        call = starting.Birth(self.registry, machine, name, state, self._limits, wait, *place)
        if session is not None:
            return await self._once(call.what, partial(starting.start, call, locked=True, own=False), session)
        try:
            return await self._once(call.what, partial(starting.start, call, locked=False))
        except Alone:
            flow = partial(starting.start, call, locked=True)
            return await self._once(call.what, flow, opening=self._begun)

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
        return await self._advance(call)

    async def advance_many(
        self,
        machine: Machine[S, E, A],
        events: Sequence[tuple[Key, E]],
        *,
        session: joined.AsyncTransaction | None = None,
    ) -> list[Snapshot[S] | Refused | NotFound]:
        """As `PostgresStore.advance_many`."""
        calls = [self._call(machine, key, event, None) for key, event in events]
        if not calls:
            return []
        if session is not None:
            flow = partial(advancing_many.many_joined, calls)
            return list(
                await self._run(
                    await joined.async_connection(session), flow, f"advance {len(calls)} machines"
                )
            )
        return [await self._answered(answer) for answer in await self._group(calls)]

    async def signal(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        ttl: timedelta | None = None,
        session: joined.AsyncTransaction | None = None,
    ) -> Receipt:
        """As `PostgresStore.signal`."""
        call = self._signal(machine, key, event, dedup_key, ttl)
        if session is not None:
            connection = await joined.async_connection(session)
            flow = partial(signalling.signal, call, locked=True, own=False)
            return await self._run(connection, flow, call.what)
        return await self._decide_own(call, partial(signalling.signal, call))

    async def signal_or_start(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        state: S | None = None,
        *,
        dedup_key: str | None = None,
        session: joined.AsyncTransaction | None = None,
    ) -> Receipt:
        """As `PostgresStore.signal_or_start`."""
        name = self._started(machine, key)
        call = self._signal(machine, key, event, dedup_key, None)
        wait = self._lock_wait if session is None else None
        birth = starting.Birth(self.registry, machine, name, state, self._limits, wait)
        flow = partial(signalling.signal_or_start, call, birth, own=session is None)
        return await self._once(call.what, flow, session, opening=None if session else self._begun)
