"""The outbox against the log: what each event emits, and the rows that there are."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fsm_core.audit.compare import canonical, same
from fsm_core.audit.log import OPEN
from fsm_core.audit.replaying import GENEROUS
from fsm_core.codec import encode
from fsm_core.errors import FsmError
from fsm_core.rows import NOW, STATE_TIMER, NewAction
from fsm_core.types import MESSAGES, TIMERS, ActionStatus, ChildEnded, MachineStatus, Spawn, Timeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsm_core.audit.log import Log, Row
    from fsm_core.audit.replaying import Step
    from fsm_core.registry import AnyMachine

BUILT_IN_ROWS = frozenset(cls.__name__ for cls in (*TIMERS, *MESSAGES, Timeout, ChildEnded))
"""The names of rows that are no action of the machine's own."""

_ROUTED = ("tracked", "queue", "priority", "lane", "limit_name", "limit_key")


class Mismatch(NamedTuple):
    """A place in the outbox that is other than the log would have it. emitted, recorded: None where there is none."""

    seq: int
    idx: int
    emitted: NewAction | None
    recorded: Row | None
    message: str


class Outbox:
    """Compares the rows of a log with what its events emit, step by step.

    routed: also compare where the rows went (queue, priority, lane, limit), which is the machine's present `route`.
    """

    def __init__(self, log: Log, *, routed: bool) -> None:
        self._log = log
        self._compared = (*_ROUTED, "timer") if routed else ("timer",)
        self._rows: dict[int, dict[int, Row]] = defaultdict(dict)
        for row in log.rows:
            self._rows[row.seq][row.idx] = row
        self._unwritten: list[tuple[Step, NewAction]] = []
        self._first: int | None = None

    def step(self, step: Step) -> list[Mismatch]:
        """What is wrong with the rows of this step's event; of timers before it, too, when that shows only now."""
        seq = step.entry.seq
        self._first = seq if self._first is None else self._first
        found = self._settled(step)
        emitted, recorded = {row.idx: row for row in emissions(step)}, self._rows.pop(seq, {})
        for idx in sorted(emitted.keys() | recorded.keys()):
            one, other = emitted.get(idx), recorded.get(idx)
            if one is None and other is not None:
                found += [] if self._of_its_end(other) else [_unexpected(other)]
            elif one is not None and other is None and one.timer is not None:
                self._unwritten.append((step, one))
            elif one is not None and (said := self._said(step.machine, one, other)) is not None:
                found.append(Mismatch(seq, idx, one, other, said))
        return found

    def rest(self) -> list[Mismatch]:
        """What is wrong beyond the last step: rows of events that are not in the log, timers that are not there."""
        first = self._first
        beyond = [
            row
            for seq, rows in self._rows.items()
            if first is not None and seq > first
            for row in rows.values()
        ]
        return [
            *map(_missing, self._unwritten),
            *(_unexpected(row) for row in beyond if not self._of_its_end(row)),
        ]

    def _settled(self, step: Step) -> list[Mismatch]:
        """A timer that ends in the very unit that set it was never written. Events of one unit have one time."""
        late = [each for each in self._unwritten if each[0].entry.occurred_at != step.entry.occurred_at]
        self._unwritten = [
            (before, row)
            for before, row in self._unwritten
            if before.entry.occurred_at == step.entry.occurred_at
            and not (row.timer in step.unit.cancelled or step.unit.ended)
        ]
        return list(map(_missing, late))

    def _said(self, machine: AnyMachine, one: NewAction, other: Row | None) -> str | None:
        """What is wrong with a row; None, if nothing is."""
        if other is None:
            return f"{shown(one)} was emitted, and there is no such row"
        if one.version != other.version and one.name == other.name and not is_own(one):
            return None  # what a timer or a message carries may have another name and shape by now
        try:
            equal = same(content(machine, one), content(machine, other))
        except FsmError as error:
            return f"the row {shown(other)} cannot be read: {error}"
        if not equal:
            return f"{shown(one)} was emitted, the row is {shown(other)}"
        if one.name == Spawn.__name__:
            return None
        columns = [c for c in self._compared if getattr(one, c) != getattr(other, c)]
        if self._log.snapshots and one.timer and other.timer and one.timer.startswith(STATE_TIMER):
            columns = [c for c in columns if c != "timer"]  # an upcast renames a state's timer with its state
        if one.outcome is not None and not _same_outcome(one.outcome, other.outcome):
            columns.append("outcome")
        said = (f"its {c} is {getattr(other, c)!r}, not {getattr(one, c)!r}" for c in columns)
        return f"{one.name}: {', '.join(said)}" if columns else None

    def _of_its_end(self, row: Row) -> bool:
        """Whether the row is what a machine that was cancelled from outside left for its parent and its children."""
        cancelled = self._log.seen.status is MachineStatus.CANCELLED and row.seq == self._log.seen.seq
        return cancelled and row.name in BUILT_IN_ROWS and row.timer is None


def emissions(step: Step) -> Iterator[NewAction]:
    """The rows that the step's event writes to the outbox, its children's among them."""
    yield from step.unit.actions
    for birth in step.unit.births:
        yield NewAction(
            birth.seq, birth.idx, Spawn.__name__, birth.version, birth.payload, tracked=True, status=ActionStatus.COMPLETED,
            queue=birth.queue, priority=0, lane=None, delay=NOW,
        )  # fmt: skip


def content(machine: AnyMachine, row: NewAction | Row) -> object:
    """What a row asks for, to be compared by `same`. Raises UnknownType, InvalidPayload."""
    if is_own(row):
        return canonical_action(machine, row)
    return [row.name, msgspec.json.decode(row.payload)]


def canonical_action(machine: AnyMachine, row: NewAction | Row) -> str:
    """One of the machine's own actions in its one form. Raises UnknownType, InvalidPayload."""
    return canonical(machine, "action", row.name, row.payload, row.version)


def restored(machine: AnyMachine, state: object) -> Counter[str] | None:
    """The open actions that `@machine.restore` makes of `state`, as `canonical_action` has them; None: none is declared."""
    actions = machine.restored(state)
    if actions is None:
        return None
    return Counter(
        canonical(machine, "action", machine.action_name(a), encode(a, "action", GENEROUS), machine.version)
        for a in actions
    )


def is_open(row: Row) -> bool:
    """Whether `@machine.restore` should name the row: an own tracked action that has not finished."""
    return row.status in OPEN and row.tracked and is_own(row)


def is_own(row: NewAction | Row) -> bool:
    """Whether the row is an action of the machine's own, not a built-in one."""
    return row.timer is None and row.name not in BUILT_IN_ROWS


def shown(row: NewAction | Row) -> str:
    """The row in a message."""
    payload = msgspec.json.encode(msgspec.json.decode(row.payload)).decode()  # without the blanks of jsonb
    return f"{row.name} {payload}" if payload != "{}" else row.name


def _same_outcome(one: str, other: str | None) -> bool:
    return other is not None and same(msgspec.json.decode(one), msgspec.json.decode(other))


def _missing(unwritten: tuple[Step, NewAction]) -> Mismatch:
    _, row = unwritten
    return Mismatch(row.seq, row.idx, row, None, f"the timer {shown(row)} was set, and there is no such row")


def _unexpected(row: Row) -> Mismatch:
    return Mismatch(row.seq, row.idx, None, row, f"no event emitted the row {shown(row)}")
