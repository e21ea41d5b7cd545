"""The tables as dicts: rows as the codec's JSON text, and the one way in which a unit is written to them."""

from __future__ import annotations

import copy
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from fsm_core.births import Address, cancelled
from fsm_core.delivery.waiters import Waiters
from fsm_core.rows import STATE_TIMER, text
from fsm_core.types import ActionId, ActionStatus, MachineStatus, Spawn
from fsm_core.unit import Held, NewEvent, Rebased, Seen, Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from fsm_core.inputs import Dedup
    from fsm_core.limits import Limit
    from fsm_core.memory.clock import Clock
    from fsm_core.rows import NewAction

OPEN = (ActionStatus.BLOCKED, ActionStatus.PENDING, ActionStatus.PUBLISHED, ActionStatus.RUNNING)


@dataclass
class MachineRow:
    """A machine. `change` orders rows that changed at the same time: the clock stands still."""

    id: UUID
    fsm: str
    key: str
    version: int
    status: MachineStatus
    state_name: str
    state: str
    seq: int
    rev: int
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    change: int
    parent: UUID | None = None
    parent_queue: str | None = None
    partition_key: str | None = None
    priority: int | None = None
    pruned: bool = False


@dataclass
class EventRow:
    """One event of the log."""

    machine_id: UUID
    event: NewEvent
    occurred_at: datetime


@dataclass
class ActionRow:
    """One action of the outbox; what its columns mean: docs/protocol.md."""

    id: ActionId
    fsm: str
    key: str
    name: str
    version: int
    payload: str
    tracked: bool
    status: ActionStatus
    queue: str
    priority: int
    lane: str | None
    timer: str | None
    outcome: str | None
    created_at: datetime
    run_at: datetime
    attempt: int = 0
    budget_from: int = 0
    lost: int = 0
    in_doubt: bool = False
    token: UUID | None = None
    worker_id: UUID | None = None
    published_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    note: str | None = None
    limit_name: str | None = None
    limit_key: str | None = None


@dataclass
class AttemptRow:
    """An attempt that did not end its action."""

    number: int
    started_at: datetime
    ended_at: datetime
    outcome: str
    error: str | None = None
    late: str | None = None


@dataclass
class DedupRow:
    """What a dedup key was used for. `seq` is None while its event is held."""

    digest: bytes
    seq: int | None


@dataclass
class BucketRow:
    """The tokens that a limit's key had left when it was last looked at."""

    tokens: float
    refilled_at: datetime


_ROWS = frozenset(
    {"machines", "addresses", "events", "actions", "of_machine", "inbox", "expires", "dedup", "snapshots"}
)


@dataclass
class Tables:
    """All rows, under one lock; `alive` are the workers that have not ended. Its methods are called with the lock held."""

    clock: Clock
    lock: threading.RLock = field(default_factory=threading.RLock)
    machines: dict[UUID, MachineRow] = field(default_factory=dict)
    addresses: dict[tuple[str, str], UUID] = field(default_factory=dict)
    events: dict[UUID, list[EventRow]] = field(default_factory=lambda: defaultdict(list))
    actions: dict[ActionId, ActionRow] = field(default_factory=dict)
    of_machine: dict[UUID, list[ActionRow]] = field(default_factory=lambda: defaultdict(list))
    attempts: dict[ActionId, dict[UUID, AttemptRow]] = field(default_factory=lambda: defaultdict(dict))
    inbox: dict[UUID, list[Held]] = field(default_factory=lambda: defaultdict(list))
    expires: dict[int, datetime] = field(default_factory=dict)
    dedup: dict[tuple[UUID, str], DedupRow] = field(default_factory=dict)
    snapshots: dict[UUID, list[Rebased]] = field(default_factory=lambda: defaultdict(list))
    projected: list[object] = field(default_factory=list)
    alive: set[UUID] = field(default_factory=set)
    waiters: Waiters = field(default_factory=Waiters)
    limits: dict[str, Limit] = field(default_factory=dict)
    buckets: dict[tuple[str, str], BucketRow] = field(default_factory=dict)
    judge: Callable[[Unit], None] | None = None
    """What raises, if a unit breaks an invariant: then nothing of it is written."""
    _count: int = 0

    def find(self, fsm: str, key: str) -> MachineRow | None:
        """The machine at an address."""
        found = self.addresses.get((fsm, key))
        return None if found is None else self.machines[found]

    def seen(self, row: MachineRow) -> Seen:
        """The row as a decision reads it. Time does not go back within a machine."""
        return Seen(
            row.id, row.fsm, row.key, row.version, row.status, row.state_name, row.state, row.seq, row.rev,
            len(self.inbox[row.id]), max(self.clock.now(), row.updated_at), row.created_at, row.updated_at, row.ended_at,
            row.parent, row.parent_queue, row.partition_key, row.priority,
        )  # fmt: skip

    def next_number(self) -> int:
        """The next number of a sequence: of changes, and of places in the inbox."""
        self._count += 1
        return self._count

    def decided(self, decide: Callable[[frozenset[Address]], Unit]) -> Unit:
        """The unit that bears no child where a machine is already. Raises what `decide` raises."""
        taken: frozenset[Address] = frozenset()
        while True:
            unit = decide(taken)
            born = {(child.seen.machine, child.seen.key) for child in unit.born}
            if not (more := born & self.addresses.keys()):
                return unit
            taken |= more

    def children(self, parent: UUID, before: ActionId | None = None) -> list[MachineRow]:
        """The children of a machine that still live. before: not those that were born after this action of its."""
        mine = [row for row in self.machines.values() if row.parent == parent and row.ended_at is None]
        later = {
            row.payload
            for row in self.of_machine[parent]
            if before is not None and row.name == Spawn.__name__ and row.status is ActionStatus.COMPLETED
            and row.id > before
        }  # fmt: skip
        return [row for row in mine if text({"machine": row.fsm, "key": row.key}) not in later]

    def end(self, row: MachineRow, note: str) -> int:
        """Cancel a machine with its open actions; its parent is told, its children follow. Returns how many actions."""
        open_ = [action for action in self.of_machine[row.id] if action.status in OPEN]
        for action in open_:
            self.cancel(action, note)
        mine = [a for a in self.of_machine[row.id] if a.id.seq == row.seq]
        idx = max((a.id.idx for a in mine), default=-1) + 1
        queue = next((child.parent_queue for child in self.children(row.id)), None)
        left = cancelled(self.seen(row), idx, note, queue)
        row.status, row.ended_at = MachineStatus.CANCELLED, self.clock.now()
        row.updated_at, row.rev, row.change = (
            max(self.clock.now(), row.updated_at),
            row.rev + 1,
            self.next_number(),
        )
        self._emit(self.seen(row), left)
        self.waiters.wake([row.id])
        return len(open_)

    def waiting(self, machine: UUID) -> list[Held]:
        """What is held for a machine and has not expired."""
        now = self.clock.now()
        return [held for held in self.inbox[machine] if self.expires.get(held.pos or 0, now) >= now]

    def expect(self, machine: UUID, fsm: str, key: str, version: int) -> MachineRow:
        """A machine that is not born: signals wait for it."""
        now = self.clock.now()
        row = MachineRow(
            machine, fsm, key, version, MachineStatus.UNBORN, "", "", 0, 1, now, now, None, self.next_number()
        )
        self.machines[machine], self.addresses[fsm, key] = row, machine
        return row

    def hold(self, row: MachineRow, held: Held, dedup: Dedup | None) -> None:
        """Keep a signal for a machine that is not born."""
        row.rev += 1
        self._keep(row.id, held)
        if dedup is not None and dedup.digest is not None:
            self.dedup[row.id, dedup.key] = DedupRow(dedup.digest, None)

    def _keep(self, machine: UUID, held: Held) -> None:
        number = self.next_number()
        self.inbox[machine].append(held._replace(pos=number))
        if held.ttl is not None:
            self.expires[number] = self.clock.now() + held.ttl

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """What raises inside leaves every row as it was."""
        # All in one copy: a row that stands in two tables is one row in the copy, too.
        kept = copy.deepcopy({f.name: getattr(self, f.name) for f in fields(self) if f.name in _ROWS})
        shown = len(self.projected)
        try:
            yield
        except BaseException:
            del self.projected[shown:]
            for name, value in kept.items():
                setattr(self, name, value)
            raise

    def insert(self, unit: Unit, source: str, call_id: UUID | None, cause: str | None = None) -> None:
        """Write a birth; its address is free. Raises InvariantViolated."""
        self._judged(unit)
        seen, at = unit.seen, unit.seen.at
        self.machines[seen.id] = MachineRow(
            seen.id, seen.machine, seen.key, unit.version, unit.status, unit.state_name, unit.state, 0, 1, at, at,
            at if unit.ended else None, self.next_number(), seen.parent, seen.parent_queue, seen.partition_key, seen.priority,
        )  # fmt: skip
        self.addresses[seen.machine, seen.key] = seen.id
        born = NewEvent(0, unit.state_name, unit.state, unit.version, "applied", source, cause, call_id)
        self.events[seen.id].append(EventRow(seen.id, born, at))
        self._emit(unit.seen, unit.actions)
        self._extras(unit)

    def write(self, unit: Unit) -> bool:
        """Write a unit, all or nothing; returns whether its guards held: the machine's `rev`, its endings' claims.

        Raises InvariantViolated.
        """
        row = self.machines[unit.seen.id]
        ends = [self.actions.get(ending.id) for ending in unit.endings]
        mine = (
            a is not None and a.status is e.want and a.token == e.mine
            for a, e in zip(ends, unit.endings, strict=True)
        )  # fmt: skip
        if row.rev != unit.seen.rev or not all(mine):
            return False
        self._judged(unit)
        self._step(row, unit)
        self._remember(unit)
        self._end_timers(unit)
        self._end_actions(unit)
        self._emit(unit.seen, unit.actions)
        self._extras(unit)
        if unit.ended:
            self.waiters.wake([row.id])
        return True

    def cancel(self, row: ActionRow, note: str | None) -> None:
        """End an action without a result. Its token stays, so that a late result finds it."""
        row.status, row.finished_at = ActionStatus.CANCELLED, self.clock.now()
        row.note = row.note if note is None else note

    def record_attempt(
        self, row: ActionRow, outcome: str, *, error: str | None = None, late: str | None = None
    ) -> None:
        """Keep the last attempt in a row of its own, once; the action's is about to tell of another. None was: nothing."""
        if row.token is not None and row.started_at is not None:
            ended = row.finished_at or self.clock.now()
            made = AttemptRow(row.attempt, row.started_at, ended, outcome, error, late)
            self.attempts[row.id].setdefault(row.token, made)

    def _judged(self, unit: Unit) -> None:
        if self.judge is not None:
            for each in (unit, *unit.born):
                self.judge(each)

    def _extras(self, unit: Unit) -> None:
        """What a unit writes besides its machine: children, a state in its present shape, statements that nobody runs here."""
        if unit.rebased is not None:
            self._rebase(unit.seen.id, unit.rebased)
        self.projected += unit.projected
        for each in unit.births:
            made = ActionId(unit.seen.id, each.seq, each.idx)
            if each.child is not None:
                self.insert(each.child, "spawn", None, str(made))
            status = ActionStatus.COMPLETED if each.child is not None else ActionStatus.FAILED
            row = ActionRow(
                made, unit.seen.machine, unit.seen.key, "Spawn", each.version, each.payload, tracked=True, status=status,
                queue=each.queue, priority=5, lane=None, timer=None, outcome=None, created_at=unit.seen.at,
                run_at=unit.seen.at, finished_at=unit.seen.at, error=None if each.child is not None else text({"message": "the key is taken"}),
            )  # fmt: skip
            self.actions[made] = row
            self.of_machine[unit.seen.id].append(row)

    def _rebase(self, machine: UUID, now: Rebased) -> None:
        self.snapshots[machine].append(now)
        for row in self.of_machine[machine]:
            armed = row.status in (ActionStatus.PENDING, ActionStatus.PUBLISHED)
            if armed and row.id.seq <= now.seq and row.timer == f"{STATE_TIMER}{now.before}":
                row.timer = f"{STATE_TIMER}{now.state_name}"

    def _step(self, row: MachineRow, unit: Unit) -> None:
        at = unit.seen.at
        if unit.seq > row.seq:
            row.updated_at, row.change = at, self.next_number()
        row.state_name, row.state, row.version = unit.state_name, unit.state, unit.version
        row.status, row.seq, row.rev = unit.status, unit.seq, row.rev + 1
        row.ended_at = (row.ended_at or at) if unit.ended else None
        self.events[row.id] += [EventRow(row.id, event, at) for event in unit.events]

    def _remember(self, unit: Unit) -> None:
        """The inbox and the dedup keys."""
        machine = unit.seen.id
        waiting = [held for held in self.inbox[machine] if held.pos not in unit.taken]
        self.inbox[machine] = waiting
        for held in unit.held:
            self._keep(machine, held)
        for known in unit.dedup:
            if known.digest is not None:
                self.dedup[machine, known.key] = DedupRow(known.digest, known.seq)
            elif (found := self.dedup.get((machine, known.key))) is not None:
                found.seq = known.seq

    def _end_timers(self, unit: Unit) -> None:
        if not (unit.cancelled or unit.ended):
            return
        spared = {ending.id for ending in unit.endings}
        for row in self.of_machine[unit.seen.id]:
            ends = row.timer is not None and (unit.ended or row.timer in unit.cancelled)
            if ends and row.id not in spared and row.status in (ActionStatus.PENDING, ActionStatus.PUBLISHED):
                self.cancel(row, None)

    def _end_actions(self, unit: Unit) -> None:
        for ending in unit.endings:
            row = self.actions[ending.id]
            row.status, row.error, row.note = ending.to, ending.error, ending.note
            row.outcome = ending.outcome or row.outcome
            row.attempt += ending.attempt
            row.finished_at = self.clock.now()

    def _emit(self, seen: Seen, actions: Sequence[NewAction]) -> None:
        for new in actions:
            made = ActionId(seen.id, new.seq, new.idx)
            row = ActionRow(
                made, seen.machine, seen.key, new.name, new.version, new.payload, new.tracked, ActionStatus(new.status),
                new.queue, new.priority, new.lane, new.timer, new.outcome, seen.at, self.clock.now() + new.delay,
                limit_name=new.limit_name, limit_key=new.limit_key,
            )  # fmt: skip
            if new.claim is not None:
                row.token, row.worker_id = new.claim
                row.attempt, row.published_at, row.started_at = 1, seen.at, seen.at
            self.actions[made] = row
            self.of_machine[seen.id].append(row)
