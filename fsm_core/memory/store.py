"""The synchronous store in memory."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import UUID, uuid4, uuid5

from fsm_core import audit
from fsm_core.births import Address, Bounds, birth
from fsm_core.codec import DEFAULT_LIMITS, Limits, decode_named
from fsm_core.draft import Draft
from fsm_core.errors import (
    ActionNotFound,
    DedupMismatch,
    DefinitionError,
    InvariantViolated,
    MachineEnded,
    MachineNotFound,
    TransitionError,
    UnknownMachine,
    UnsupportedConnection,
    WrongSeq,
    WrongStatus,
)
from fsm_core.inputs import Dedup, check, remembered
from fsm_core.memory import logs, views
from fsm_core.memory.clock import Clock
from fsm_core.memory.drain import Drain, Drained
from fsm_core.memory.tables import OPEN, ActionRow, DedupRow, MachineRow, Tables
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
from fsm_core.unit import Seen, Unit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from fsm_core.machine import Machine

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")

MOST = 10_000
NAMESPACE = UUID("5e4f5d0e-7b5c-4d1e-9b62-6f736d656d6f")

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
        self._tables.judge = self._judge

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
        with self._tables.lock:
            row = self._tables.find(machine.name, name)
            if row is not None:
                return replace(self._draft(row).snapshot, duplicate=True)
            at = self.clock.now()
            blank = Seen(
                uuid5(NAMESPACE, f"{machine.name}/{name}"), machine.name, name, machine.version, MachineStatus.UNBORN, "", "",
                0, 0, 0, at, at, at, None,
            )  # fmt: skip

            def decide(taken: frozenset[Address]) -> Unit:
                return birth(machine, chosen, blank, Bounds(self._limits, taken))[0]

            unit = self._tables.decided(decide)
            self._tables.insert(unit, "call", uuid4())
            return birth(machine, chosen, blank, Bounds(self._limits))[1]

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
            row = self._row(machine.name, key_text(key))
            draft = self._draft(row)
            dedup = remembered(machine, event, dedup_key, self._limits)
            if dedup is not None and (known := self._tables.dedup.get((row.id, dedup.key))) is not None:
                return _duplicate(draft, dedup, known)
            if expected_seq is not None and expected_seq != row.seq:
                raise WrongSeq(expected_seq, row.seq)
            call, snapshots = uuid4(), list[Snapshot[S]]()

            def decide(taken: frozenset[Address]) -> Unit:
                draft = self._draft(row, taken)
                draft.apply(event, "call", call_id=call, dedup=dedup)
                snapshots.append(draft.snapshot)
                draft.follow()
                return self._offered(row, draft)

            self._write(row, self._tables.decided(decide))
            return snapshots[-1]

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
            return self._draft(self._row(machine.name, key_text(key))).snapshot

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
                row.status = ActionStatus.PENDING if row.lane is None else ActionStatus.BLOCKED
                row.budget_from, row.run_at = row.attempt, self.clock.now()
                row.finished_at, row.note = None, "retried by hand"
            return [row.id for row in failed]

    def restore(self, machine: Machine[S, E, A], key: Key) -> list[ActionId]:
        """As `PostgresStore.restore`."""
        self.registry.add(machine)
        with self._tables.lock:
            row = self._row(machine.name, key_text(key))
            return logs.put_back(self._tables, row, audit.lost(logs.log(self._tables, row), self.registry))

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
        if row is None:
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

    def _draft(self, row: MachineRow, taken: frozenset[Address] = frozenset()) -> Draft:
        return Draft(self.registry.reader(row.fsm, row.version), self._tables.seen(row), self._limits, taken)

    def _judge(self, unit: Unit) -> None:
        """Raises InvariantViolated. Machines that this process does not know are nobody's to judge here."""
        try:
            machine = self.registry.reader(unit.seen.machine, unit.version)
        except UnknownMachine:
            return
        state = decode_named(machine, "state", unit.state_name, unit.state, unit.version)
        if (broken := machine.violated(state)) is not None:
            raise InvariantViolated(machine.name, unit.state_name, broken)

    def _offered(self, row: MachineRow, draft: Draft) -> Unit:
        waiting = self._tables.inbox[row.id]
        if waiting and draft.changed:
            draft.offer(list(waiting))
            for held, bug in draft.refused:
                log.error("a held %s could not be applied, it is held on", held.name, exc_info=bug)
        return draft.unit

    def _write(self, row: MachineRow, unit: Unit) -> None:
        if not self._tables.write(unit):
            raise TransitionError(f"machine {row.fsm}/{row.key} was changed by its own transition")


def _duplicate(draft: Draft, dedup: Dedup, known: DedupRow) -> Snapshot[Any]:
    if known.digest != dedup.digest:
        raise DedupMismatch(dedup.key, known.seq)
    now, seq = draft.snapshot, known.seq
    return replace(now, seq=now.seq if seq is None else seq, duplicate=True, held=seq is None)


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
