"""The asynchronous store in memory: the same rows, every verb awaited."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from fsm_core.delivery.waiters import Deadline
from fsm_core.limits import SECOND
from fsm_core.memory.store import MOST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from fsm_core.audit import Diff, Log
    from fsm_core.delivery.retention import Pruned, Retention
    from fsm_core.delivery.upcasting import Upcast
    from fsm_core.delivery.waiters import Span
    from fsm_core.errors import NotFound, Refused
    from fsm_core.limits import Limit
    from fsm_core.machine import Machine
    from fsm_core.memory.drain import Drained
    from fsm_core.memory.store import MemoryStore
    from fsm_core.records import ActionRecord, HistoryEntry, MachineRecord, Receipt, Snapshot
    from fsm_core.registry import AnyMachine
    from fsm_core.types import ActionId, Decision, Key

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")


class AsyncMemoryStore:
    """As `AsyncPostgresStore`, over the rows of a `MemoryStore`.

    A test drives an async application by the one and looks with the other. No verb but `drain` and `wait` waits for anything.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.registry = store.registry
        self.clock = store.clock

    async def start(
        self,
        machine: Machine[S, E, A],
        key: Key | None = None,
        state: S | None = None,
        *,
        partition_key: str | None = None,
        priority: int | None = None,
        at: datetime | None = None,
        session: object = None,
    ) -> Snapshot[S]:
        """As `MemoryStore.start`."""
        return self._store.start(
            machine, key, state, partition_key=partition_key, priority=priority, at=at, session=session
        )

    async def advance(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        expected_seq: int | None = None,
        session: object = None,
    ) -> Snapshot[S]:
        """As `MemoryStore.advance`."""
        return self._store.advance(
            machine, key, event, dedup_key=dedup_key, expected_seq=expected_seq, session=session
        )

    async def advance_many(
        self, machine: Machine[S, E, A], events: Sequence[tuple[Key, E]], *, session: object = None
    ) -> list[Snapshot[S] | Refused | NotFound]:
        """As `MemoryStore.advance_many`."""
        return self._store.advance_many(machine, events, session=session)

    async def signal(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        ttl: timedelta | None = None,
        session: object = None,
    ) -> Receipt:
        """As `MemoryStore.signal`."""
        return self._store.signal(machine, key, event, dedup_key=dedup_key, ttl=ttl, session=session)

    async def signal_or_start(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        state: S | None = None,
        *,
        dedup_key: str | None = None,
        session: object = None,
    ) -> Receipt:
        """As `MemoryStore.signal_or_start`."""
        return self._store.signal_or_start(machine, key, event, state, dedup_key=dedup_key, session=session)

    async def preview(self, machine: Machine[S, E, A], key: Key, event: E) -> Decision[S, A]:
        """As `MemoryStore.preview`."""
        return self._store.preview(machine, key, event)

    async def get(self, machine: Machine[S, E, A], key: Key) -> Snapshot[S]:
        """As `MemoryStore.get`."""
        return self._store.get(machine, key)

    async def wait(
        self,
        machine: Machine[S, E, A],
        key: Key,
        timeout: Span | None = None,  # noqa: ASYNC109 - as the synchronous verb
    ) -> Snapshot[S]:
        """As `MemoryStore.wait`; another task or thread has to end it."""
        deadline, store, over = Deadline(timeout), self._store, False
        while not over:
            with store.waiters.waiting(store.get(machine, key).id) as end:
                over = store.get(machine, key).ended_at is not None or deadline.over
                if not over:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(asyncio.wrap_future(end), deadline.left)
        return deadline.judged(store.get(machine, key))

    async def state_at(self, machine: Machine[S, E, A], key: Key, seq: int) -> Snapshot[S]:
        """As `MemoryStore.state_at`."""
        return self._store.state_at(machine, key, seq)

    async def diff(self, machine: Machine[S, E, A], key: Key, from_seq: int, to_seq: int) -> Diff[S]:
        """As `MemoryStore.diff`."""
        return self._store.diff(machine, key, from_seq, to_seq)

    async def history(self, machine: AnyMachine | str, key: Key) -> list[HistoryEntry]:
        """As `MemoryStore.history`."""
        return self._store.history(machine, key)

    async def record(self, machine: AnyMachine | str, key: Key) -> MachineRecord:
        """As `MemoryStore.record`."""
        return self._store.record(machine, key)

    async def machines(
        self,
        name: AnyMachine | str | None = None,
        *,
        status: str | None = None,
        state: str | None = None,
        limit: int = 100,
    ) -> list[MachineRecord]:
        """As `MemoryStore.machines`."""
        return self._store.machines(name, status=status, state=state, limit=limit)

    async def actions(
        self,
        *,
        status: str | None = None,
        machine: AnyMachine | str | None = None,
        key: Key | None = None,
        action: str | None = None,
        queue: str | None = None,
        limit: int = 100,
    ) -> list[ActionRecord]:
        """As `MemoryStore.actions`."""
        return self._store.actions(
            status=status, machine=machine, key=key, action=action, queue=queue, limit=limit
        )

    async def action(self, action_id: ActionId) -> ActionRecord:
        """As `MemoryStore.action`."""
        return self._store.action(action_id)

    async def log(self, machine: AnyMachine | str, key: Key) -> Log:
        """As `MemoryStore.log`."""
        return self._store.log(machine, key)

    async def logs(
        self,
        names: Sequence[AnyMachine | str] | None = None,
        *,
        since: timedelta | None = None,
        after: UUID | None = None,
    ) -> list[Log]:
        """As `MemoryStore.logs`."""
        return self._store.logs(names, since=since, after=after)

    async def count(
        self, names: Sequence[AnyMachine | str] | None = None, *, since: timedelta | None = None
    ) -> int:
        """As `MemoryStore.count`."""
        return self._store.count(names, since=since)

    async def retry(self, action_ids: Sequence[ActionId]) -> list[ActionId]:
        """As `MemoryStore.retry`."""
        return self._store.retry(action_ids)

    async def restore(self, machine: Machine[S, E, A], key: Key) -> list[ActionId]:
        """As `MemoryStore.restore`."""
        return self._store.restore(machine, key)

    async def upcast(
        self,
        machine: Machine[S, E, A],
        *,
        dry_run: bool = False,
        every: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Upcast:
        """As `MemoryStore.upcast`."""
        return self._store.upcast(machine, dry_run=dry_run, every=every, progress=progress)

    async def cancel(self, machine: AnyMachine | str, key: Key, note: str = "cancelled by hand") -> int:
        """As `MemoryStore.cancel`."""
        return self._store.cancel(machine, key, note)

    async def cancel_action(self, action_id: ActionId, note: str = "cancelled by hand") -> None:
        """As `MemoryStore.cancel_action`."""
        self._store.cancel_action(action_id, note)

    async def limit(
        self,
        name: str,
        *,
        max_running: int | None = None,
        rate: float | None = None,
        per: timedelta = SECOND,
        burst: int | None = None,
    ) -> Limit:
        """As `MemoryStore.limit`."""
        return self._store.limit(name, max_running=max_running, rate=rate, per=per, burst=burst)

    async def limits(self) -> list[Limit]:
        """As `MemoryStore.limits`."""
        return self._store.limits()

    async def remove_limit(self, name: str) -> bool:
        """As `MemoryStore.remove_limit`."""
        return self._store.remove_limit(name)

    async def prune(self, retention: Retention, *, live: bool = False, dry_run: bool = False) -> Pruned:
        """As `MemoryStore.prune`."""
        return self._store.prune(retention, live=live, dry_run=dry_run)

    async def drain(self, *, limit: int = MOST, jump: bool = False) -> Drained:
        """As `MemoryStore.drain`, in a thread of its own with a loop of its own: effects share nothing with this one."""
        return await asyncio.to_thread(self._store.drain, limit=limit, jump=jump)
