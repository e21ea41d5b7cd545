"""The synchronous store in memory."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar
from uuid import UUID, uuid4

from fsm_core import audit
from fsm_core.delivery.waiters import Deadline
from fsm_core.errors import (
    ActionNotFound,
    DefinitionError,
    MachineEnded,
    MachineNotFound,
    NotFound,
    Refused,
    UnsupportedConnection,
    WrongStatus,
)
from fsm_core.inputs import check, checked_place, checked_ttl
from fsm_core.limits import SECOND, Limit
from fsm_core.memory import logs, views
from fsm_core.memory.clock import Clock
from fsm_core.memory.deciding import Call, Deciding, Place
from fsm_core.memory.drain import Drain, Drained
from fsm_core.memory.prune import Pruner
from fsm_core.memory.tables import OPEN, ActionRow, MachineRow, Tables
from fsm_core.memory.upcasts import upcasts
from fsm_core.payload import DEFAULT_LIMITS, Limits
from fsm_core.registry import AnyEffects, AnyMachine, Registry
from fsm_core.types import (
    ActionId,
    ActionRecord,
    ActionStatus,
    Decision,
    HistoryEntry,
    Key,
    MachineRecord,
    MachineStatus,
    Snapshot,
    key_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from fsm_core.delivery.retention import Pruned, Retention
    from fsm_core.delivery.upcasting import Upcast
    from fsm_core.delivery.waiters import Span
    from fsm_core.machine import Machine
    from fsm_core.records import Receipt

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")

MOST = 10_000

log = logging.getLogger(__name__)


class MemoryStore:
    """Machines in memory: every verb of `PostgresStore` with the same answers and refusals, and `drain`. Thread-safe.

    entries: the effects that `drain` runs, and machines that calls do not name. clock: what time it is (None: a `Clock`
    that begins now and stands still). limits: of payloads.

    A machine's id is derived from its name and key, so that what `ctx.random` draws and the idempotency keys are the same
    in every run: nothing for a service that remembers keys between runs.
    Raises DuplicateMachine, DefinitionError.
    """

    def __init__(
        self,
        *entries: AnyMachine | AnyEffects,
        clock: Clock | None = None,
        limits: Limits | None = None,
        _tables: Tables | None = None,
    ) -> None:
        self.registry = Registry(entries)
        self._limits = limits or DEFAULT_LIMITS
        self._tables = _tables or Tables(clock or Clock())
        self.clock = self._tables.clock
        self.waiters = self._tables.waiters
        self._deciding = Deciding(self._tables, self.registry, self._limits)
        self._tables.judge = self._deciding.judge

    @property
    def projected(self) -> list[object]:
        """The statements that projections gave, in order: no database is here to run them, a test may look at them."""
        return self._tables.projected

    def reopen(self, *entries: AnyMachine | AnyEffects, limits: Limits | None = None) -> Self:
        """Another store on the same rows and clock, as a process that starts later has it: other code, other effects."""
        return type(self)(*entries, limits=limits, _tables=self._tables)

    # The verbs

    def start(
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
        """As `PostgresStore.start`. Raises UnsupportedConnection if a `session` is given: there is nothing to join."""
        _no_session(session)
        self.registry.add(machine)
        name = str(uuid4()) if key is None else key_text(key)
        chosen = machine.initial if state is None else state
        if chosen is None:
            raise DefinitionError(f"machine {machine.name!r} has no initial=; start it with a state")
        machine.state_name(chosen)
        checked_place(partition_key, priority, at)
        with self._tables.lock:
            return self._deciding.start(machine, name, chosen, Place(partition_key, priority, at))

    def advance(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        expected_seq: int | None = None,
        session: object = None,
    ) -> Snapshot[S]:
        """As `PostgresStore.advance`. Raises UnsupportedConnection if a `session` is given: there is nothing to join."""
        _no_session(session)
        self.registry.add(machine)
        check(machine, event, dedup_key)
        with self._tables.lock:
            call = Call(machine, key_text(key), event, dedup_key, expected_seq)
            return self._deciding.advance(self._row(machine.name, call.key), call)

    def advance_many(
        self, machine: Machine[S, E, A], events: Sequence[tuple[Key, E]], *, session: object = None
    ) -> list[Snapshot[S] | Refused | NotFound]:
        """As `PostgresStore.advance_many`."""
        _no_session(session)
        for _, event in events:
            check(machine, event, None)
        answers: list[Snapshot[S] | Refused | NotFound] = []
        for key, event in events:
            try:
                answers.append(self.advance(machine, key, event))
            except (Refused, NotFound) as refusal:
                answers.append(refusal)
        return answers

    def signal(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        ttl: timedelta | None = None,
        session: object = None,
    ) -> Receipt:
        """As `PostgresStore.signal`."""
        _no_session(session)
        self.registry.add(machine)
        check(machine, event, dedup_key)
        checked_ttl(ttl)
        with self._tables.lock:
            call = Call(machine, key_text(key), event, dedup_key, wait=True, ttl=ttl)
            return self._deciding.signal(call)

    def signal_or_start(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        state: S | None = None,
        *,
        dedup_key: str | None = None,
        session: object = None,
    ) -> Receipt:
        """As `PostgresStore.signal_or_start`."""
        with self._tables.lock, self._tables.all_or_nothing():
            self.start(machine, key, state, session=session)
            return self.signal(machine, key, event, dedup_key=dedup_key)

    def preview(self, machine: Machine[S, E, A], key: Key, event: E) -> Decision[S, A]:
        """As `PostgresStore.preview`."""
        self.registry.add(machine)
        with self._tables.lock:
            row = self._row(machine.name, key_text(key))
            reader = self.registry.reader(row.fsm, row.version)
            return audit.preview(reader, self._tables.seen(row), event, self._limits)

    def get(self, machine: Machine[S, E, A], key: Key) -> Snapshot[S]:
        """As `PostgresStore.get`."""
        self.registry.add(machine)
        with self._tables.lock:
            return self._deciding.draft(self._row(machine.name, key_text(key))).snapshot

    def wait(self, machine: Machine[S, E, A], key: Key, timeout: Span | None = None) -> Snapshot[S]:
        """As `PostgresStore.wait`; another thread has to end it, by a verb or by `drain`. `timeout` is real time, not the clock's."""
        deadline, over = Deadline(timeout), False
        while not over:
            with self.waiters.waiting(self.get(machine, key).id) as end:
                over = self.get(machine, key).ended_at is not None or deadline.over
                if not over:
                    with suppress(TimeoutError):
                        end.result(deadline.left)
        return deadline.judged(self.get(machine, key))

    def state_at(self, machine: Machine[S, E, A], key: Key, seq: int) -> Snapshot[S]:
        """As `PostgresStore.state_at`."""
        self.registry.add(machine)
        return audit.state_at(self.log(machine, key), seq, self.registry.reader)

    def diff(self, machine: Machine[S, E, A], key: Key, from_seq: int, to_seq: int) -> audit.Diff[S]:
        """As `PostgresStore.diff`."""
        self.registry.add(machine)
        return audit.diff(self.log(machine, key), from_seq, to_seq, self.registry.reader)

    def history(self, machine: AnyMachine | str, key: Key) -> list[HistoryEntry]:
        """As `PostgresStore.history`."""
        with self._tables.lock:
            return views.history(self._tables, self._row(_name_of(machine), key_text(key)))

    def record(self, machine: AnyMachine | str, key: Key) -> MachineRecord:
        """As `PostgresStore.record`."""
        with self._tables.lock:
            return views.machine(self._tables, self._row(_name_of(machine), key_text(key)))

    def machines(
        self,
        name: str | None = None,
        *,
        status: str | None = None,
        state: str | None = None,
        limit: int = 100,
    ) -> list[MachineRecord]:
        """As `PostgresStore.machines`."""
        asked = (name, status, state)
        with self._tables.lock:
            rows = [
                r for r in self._tables.machines.values() if _fits(asked, (r.fsm, r.status, r.state_name))
            ]
            rows.sort(key=lambda row: (row.updated_at, row.change), reverse=True)
            return [views.machine(self._tables, row) for row in rows[:limit]]

    def actions(
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
        asked = (status, machine, None if key is None else key_text(key), action, queue)
        with self._tables.lock:
            rows = [
                r
                for r in self._tables.actions.values()
                if _fits(asked, (r.status, r.fsm, r.key, r.name, r.queue))
            ]
            return [views.action(self._tables, row) for row in rows[:limit]]

    def action(self, action_id: ActionId) -> ActionRecord:
        """As `PostgresStore.action`."""
        with self._tables.lock:
            return views.action(self._tables, self._action(action_id))

    def log(self, machine: AnyMachine | str, key: Key) -> audit.Log:
        """As `PostgresStore.log`."""
        with self._tables.lock:
            return logs.log(self._tables, self._row(_name_of(machine), key_text(key)))

    def logs(
        self, names: Sequence[str] | None = None, *, since: timedelta | None = None, after: UUID | None = None
    ) -> list[audit.Log]:
        """As `PostgresStore.logs`; all are one page."""
        with self._tables.lock:
            rows = sorted(self._changed(names, since), key=lambda row: row.id)
            return [logs.log(self._tables, row) for row in rows if after is None or row.id > after]

    def count(self, names: Sequence[str] | None = None, *, since: timedelta | None = None) -> int:
        """As `PostgresStore.count`."""
        with self._tables.lock:
            return len(self._changed(names, since))

    def retry(self, action_ids: Sequence[ActionId]) -> list[ActionId]:
        """As `PostgresStore.retry`."""
        with self._tables.lock:
            if len(action_ids) == 1:
                _must_be(self._action(action_ids[0]), (ActionStatus.FAILED,))
            found = [self._tables.actions[i] for i in dict.fromkeys(action_ids) if i in self._tables.actions]
            failed = [row for row in found if row.status is ActionStatus.FAILED]
            for row in failed:
                known = {attempt.number for attempt in self._tables.attempts[row.id].values()}
                if row.outcome is None and row.attempt not in known:
                    self._tables.record_attempt(row, "error", error=row.error)
                free = row.lane is None and row.limit_name is None
                row.status = ActionStatus.PENDING if free else ActionStatus.BLOCKED
                row.budget_from, row.run_at = row.attempt, self.clock.now()
                row.finished_at, row.note = None, "retried by hand"
            return [row.id for row in failed]

    def restore(self, machine: Machine[S, E, A], key: Key) -> list[ActionId]:
        """As `PostgresStore.restore`."""
        self.registry.add(machine)
        with self._tables.lock:
            row = self._row(machine.name, key_text(key))
            return logs.put_back(self._tables, row, audit.lost(logs.log(self._tables, row), self.registry))

    def upcast(
        self,
        machine: Machine[S, E, A],
        *,
        dry_run: bool = False,
        every: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Upcast:
        """As `PostgresStore.upcast`; all are one batch."""
        self.registry.add(machine)
        with self._tables.lock:
            done = upcasts(self._tables, self.registry, machine, self._limits, dry_run=dry_run, every=every)
        if progress is not None:
            progress(done.looked)
        return done

    def cancel(self, machine: AnyMachine | str, key: Key, note: str = "cancelled by hand") -> int:
        """As `PostgresStore.cancel`."""
        with self._tables.lock:
            row = self._row(_name_of(machine), key_text(key))
            if row.status is not MachineStatus.LIVE:
                raise MachineEnded(row.fsm, row.key, row.status)
            return self._tables.end(row, note)

    def cancel_action(self, action_id: ActionId, note: str = "cancelled by hand") -> None:
        """As `PostgresStore.cancel_action`."""
        with self._tables.lock:
            row = self._action(action_id)
            _must_be(row, (*OPEN, ActionStatus.FAILED))
            self._tables.cancel(row, note)

    def limit(
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
        with self._tables.lock:
            self._tables.limits[name] = limit
        return limit

    def limits(self) -> list[Limit]:
        """As `PostgresStore.limits`."""
        with self._tables.lock:
            return sorted(self._tables.limits.values(), key=lambda limit: limit.name)

    def remove_limit(self, name: str) -> bool:
        """As `PostgresStore.remove_limit`."""
        with self._tables.lock:
            buckets = self._tables.buckets
            self._tables.buckets = {of: bucket for of, bucket in buckets.items() if of[0] != name}
            return self._tables.limits.pop(name, None) is not None

    def prune(self, retention: Retention, *, live: bool = False, dry_run: bool = False) -> Pruned:
        """As `PostgresStore.prune`, by the store's clock."""
        with self._tables.lock:
            return Pruner(self._tables, retention, dry_run=dry_run).run(live=live)

    # Running effects

    def drain(self, *, limit: int = MOST, jump: bool = False) -> Drained:
        """Run what is due in the calling thread, and what that causes, until nothing is: the most urgent first.

        limit: of actions to take. jump: where nothing is due, the clock goes on to the next due time (retries, timers)
        instead of returning. Effects are judged, retried and asked by their probe as a worker does it; their timeouts count
        on the store's clock, those of async ones in real seconds too. What is no Exception (KeyboardInterrupt, or one of
        the test's own) comes through, as the death of a worker: the next drain finds the action in doubt.
        Raises RuntimeError in a thread that runs an event loop: await `AsyncMemoryStore.drain` there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return Drain(self._tables, self.registry).run(limit, jump=jump)
        raise RuntimeError("drain() would block the event loop; await AsyncMemoryStore(store).drain()")

    # The work behind the verbs

    def _row(self, name: str, key: str) -> MachineRow:
        row = self._tables.find(name, key)
        if row is None or row.status is MachineStatus.UNBORN:
            raise MachineNotFound(name, key)
        return row

    def _changed(self, names: Sequence[str] | None, since: timedelta | None) -> list[MachineRow]:
        """The machines of these names, changed in that time."""
        then = None if since is None else self.clock.now() - since
        rows = self._tables.machines.values()
        return [
            r for r in rows if (names is None or r.fsm in names) and (then is None or r.updated_at >= then)
        ]

    def _action(self, wanted: ActionId) -> ActionRow:
        row = self._tables.actions.get(wanted)
        if row is None:
            raise ActionNotFound(str(wanted))
        return row


def _must_be(row: ActionRow, wanted: tuple[ActionStatus, ...]) -> None:
    if row.status not in wanted:
        raise WrongStatus(str(row.id), row.status, wanted)


def _fits(asked: tuple[str | None, ...], found: tuple[str, ...]) -> bool:
    return all(want is None or want == has for want, has in zip(asked, found, strict=True))


def _no_session(session: object) -> None:
    if session is not None:
        raise UnsupportedConnection("a MemoryStore is in no database; it takes no session")


def _name_of(machine: AnyMachine | str) -> str:
    return machine if isinstance(machine, str) else machine.name
