"""The asynchronous store: the same flows, awaited."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from tenacity import AsyncRetrying

from fsm_core.delivery.waiters import Deadline, Span
from fsm_core.errors import (
    DatabaseUnavailable,
    Deadlock,
    NotFound,
    Refused,
    SerializationConflict,
    UnsupportedConnection,
)
from fsm_core.inputs import checked_place
from fsm_core.limits import SECOND, Limit
from fsm_core.postgres import joined
from fsm_core.postgres.ask import Ask, run_async
from fsm_core.postgres.base import Base, name_of
from fsm_core.postgres.flows import advance as advancing
from fsm_core.postgres.flows import audit, look, operate
from fsm_core.postgres.flows import limits as limiting
from fsm_core.postgres.flows import many as advancing_many
from fsm_core.postgres.flows import signal as signalling
from fsm_core.postgres.flows import start as starting
from fsm_core.postgres.flows.alone import Alone
from fsm_core.postgres.flows.prune import Pruning
from fsm_core.postgres.flows.upcast import Upcasting
from fsm_core.postgres.own import AsyncOwn
from fsm_core.postgres.store import LOCK_TIMEOUT
from fsm_core.postgres.waiting import AsyncListener
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
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    import psycopg
    from sqlalchemy.ext.asyncio import AsyncEngine

    from fsm_core.audit import Diff, Log, Orphan
    from fsm_core.delivery.retention import Pruned, Retention
    from fsm_core.delivery.upcasting import Upcast
    from fsm_core.machine import Machine
    from fsm_core.payload import Limits
    from fsm_core.records import Receipt
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
        self._own = AsyncOwn(engine)
        self._listeners: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncListener] = WeakKeyDictionary()

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
                return await self._decide_own(call, partial(advancing.advance, call))
        raise AssertionError  # pragma: no cover - AsyncRetrying returns or raises

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
        async with self._own.connected(f"advance {len(calls)} machines") as connection:
            try:
                answers = await self._run(connection, partial(advancing_many.many, calls), "advance many")
            except (SerializationConflict, Deadlock, DatabaseUnavailable):
                answers = [
                    advancing_many.Answer(call) for call in calls
                ]  # each looks for itself whether it got in
        return [await self._answered(answer) for answer in answers]

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
        async for attempt in AsyncRetrying(**self._policy()):
            with attempt:
                return await self._decide_own(call, partial(signalling.signal, call))
        raise AssertionError  # pragma: no cover - AsyncRetrying returns or raises

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
        return await self._once(call.what, flow, session, opening=None if session else self._lock_timeout)

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

    async def wait(
        self,
        machine: Machine[S, E, A],
        key: Key,
        timeout: Span | None = None,  # noqa: ASYNC109 - as the synchronous verb
    ) -> Snapshot[S]:
        """As `PostgresStore.wait`, from a task."""
        deadline, loop = Deadline(timeout), asyncio.get_running_loop()
        while (now := await self.get(machine, key)).ended_at is None:
            if deadline.over:
                return deadline.judged(now)
            listener = self._listeners.setdefault(loop, AsyncListener(self._engine, self.schema))
            with self._told(f"wait for {machine.name}/{now.key}"):
                await listener.wait(now.id, deadline.left)
        return now

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

    async def upcast(
        self,
        machine: Machine[S, E, A],
        *,
        dry_run: bool = False,
        every: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Upcast:
        """As `PostgresStore.upcast`."""
        self.registry.add(machine)
        work = Upcasting(
            self.registry, machine, self._limits, dry_run=dry_run, every=every, progress=progress
        )
        for flow in work.flows():
            with work.passing():
                await self._once(work.what, flow, opening=self._lock_timeout)
        return work.done

    async def cancel(self, machine: AnyMachine | str, key: Key, note: str = "cancelled by hand") -> int:
        """As `PostgresStore.cancel`."""
        flow = partial(operate.cancel_machine, name_of(machine), key_text(key), note)
        return await self._once("cancel", flow, opening=self._lock_timeout)

    async def cancel_action(self, action_id: ActionId, note: str = "cancelled by hand") -> None:
        """As `PostgresStore.cancel_action`."""
        await self._once(
            "cancel", partial(operate.cancel_action, action_id, note), opening=self._lock_timeout
        )

    async def limit(
        self,
        name: str,
        *,
        max_running: int | None = None,
        rate: float | None = None,
        per: timedelta = SECOND,
        burst: int | None = None,
    ) -> Limit:
        """As `PostgresStore.limit`."""
        limit = Limit(name, max_running, rate, per, burst)
        await self._once(f"limit {name}", partial(limiting.put, limit))
        return limit

    async def limits(self) -> list[Limit]:
        """As `PostgresStore.limits`."""
        return await self._once("limits", limiting.every)

    async def remove_limit(self, name: str) -> bool:
        """As `PostgresStore.remove_limit`."""
        return await self._once(f"remove limit {name}", partial(limiting.drop, name))

    async def prune(self, retention: Retention, *, live: bool = False, dry_run: bool = False) -> Pruned:
        """As `PostgresStore.prune`."""
        job = Pruning(retention, live=live, dry_run=dry_run)
        while (flow := job.next()) is not None:
            job.done(await self._once("prune", flow, opening=self._lock_timeout))
        return job.total

    async def _decide_own(self, call: advancing.Call, flow: Callable[..., Coroutine[Ask[Any], Any, T]]) -> T:
        async with self._own.connected(call.what) as connection:
            if call.tried_at is None and not self._is_hot(call):
                try:
                    return await self._run(connection, partial(flow, locked=False), call.what)
                except advancing.Conflict:
                    call.tried_at = None
                    self._heat(call)
            async with connection.transaction():
                await self._run(connection, self._lock_timeout, call.what)
                return await self._run(connection, partial(flow, locked=True), call.what)

    async def _answered(self, answer: advancing_many.Answer) -> Snapshot[Any] | Refused | NotFound:
        if answer.snapshot is not None:
            return answer.snapshot
        if isinstance(answer.refusal, Refused | NotFound):
            return answer.refusal
        try:
            async for attempt in AsyncRetrying(**self._policy()):
                with attempt:
                    return await self._decide_own(answer.call, partial(advancing.advance, answer.call))
        except (Refused, NotFound) as refusal:
            return refusal
        raise AssertionError  # pragma: no cover - AsyncRetrying returns or raises

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
                async with self._own.connected(what) as connection:
                    if opening is None:
                        return await self._run(connection, flow, what)
                    async with connection.transaction():
                        await self._run(connection, opening, what)
                        return await self._run(connection, flow, what)
        raise AssertionError  # pragma: no cover - AsyncRetrying returns or raises

    async def _run(
        self,
        connection: psycopg.AsyncConnection[Any],
        flow: Callable[[], Coroutine[Ask[Any], Any, T]],
        what: str,
    ) -> T:
        with self._told(what):
            return await run_async(connection, self.schema, flow())
