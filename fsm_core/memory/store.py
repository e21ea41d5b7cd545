"""The synchronous store in memory."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import UUID, uuid4, uuid5

from fsm_core.codec import DEFAULT_LIMITS, Limits
from fsm_core.errors import (
    ActionNotFound,
    DedupMismatch,
    DefinitionError,
    MachineEnded,
    MachineNotFound,
    TransitionError,
    UnsupportedConnection,
    WrongSeq,
    WrongStatus,
)
from fsm_core.inputs import Dedup, check, remembered
from fsm_core.memory import views
from fsm_core.memory.clock import Clock
from fsm_core.memory.drain import Drain, Drained
from fsm_core.memory.tables import OPEN, ActionRow, DedupRow, MachineRow, Tables
from fsm_core.registry import AnyEffects, AnyMachine, Registry
from fsm_core.types import (
    ActionId,
    ActionRecord,
    ActionStatus,
    HistoryEntry,
    Key,
    MachineRecord,
    MachineStatus,
    Snapshot,
    key_text,
)
from fsm_core.unit import Draft, Seen, birth

if TYPE_CHECKING:
    from collections.abc import Sequence

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
            unit, snapshot = birth(machine, chosen, blank, self._limits)
            self._tables.insert(unit, "call", uuid4())
            return snapshot

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
            draft.apply(event, "call", call_id=uuid4(), dedup=dedup)
            snapshot = draft.snapshot
            self._write(row, draft)
            return snapshot

    def get(self, machine: Machine[S, E, A], key: Key) -> Snapshot[S]:
        """As `PostgresStore.get`."""
        self.registry.add(machine)
        with self._tables.lock:
            return self._draft(self._row(machine.name, key_text(key))).snapshot

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

    def cancel(self, machine: AnyMachine | str, key: Key, note: str = "cancelled by hand") -> int:
        """As `PostgresStore.cancel`."""
        with self._tables.lock:
            row = self._row(_name_of(machine), key_text(key))
            if row.status is not MachineStatus.LIVE:
                raise MachineEnded(row.fsm, row.key, row.status)
            now = self.clock.now()
            row.status, row.ended_at, row.updated_at = MachineStatus.CANCELLED, now, max(now, row.updated_at)
            row.rev, row.change = row.rev + 1, self._tables.next_number()
            still = [action for action in self._tables.of_machine[row.id] if action.status in OPEN]
            for action in still:
                self._tables.cancel(action, note)
            return len(still)

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

    def _action(self, wanted: ActionId) -> ActionRow:
        row = self._tables.actions.get(wanted)
        if row is None:
            raise ActionNotFound(str(wanted))
        return row

    def _draft(self, row: MachineRow) -> Draft:
        return Draft(self.registry.machine(row.fsm, row.version), self._tables.seen(row), self._limits)

    def _write(self, row: MachineRow, draft: Draft) -> None:
        waiting = self._tables.inbox[row.id]
        if waiting and draft.changed:
            draft.offer(list(waiting))
            for held, bug in draft.refused:
                log.error("a held %s could not be applied, it is held on", held.name, exc_info=bug)
        if not self._tables.write(draft.unit):
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
