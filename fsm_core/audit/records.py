"""`fsck`: does the record of a machine agree with itself, and with what its own code makes of its log?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from fsm_core.audit.compare import canonical
from fsm_core.audit.known import beginning
from fsm_core.audit.outbox import Outbox, canonical_action, is_open, restored
from fsm_core.audit.replaying import MISSING, based, rebased, steps
from fsm_core.codec import decode_named
from fsm_core.errors import FsmError, ReplayFailed
from fsm_core.types import MachineStatus

if TYPE_CHECKING:
    from fsm_core.audit.log import Base, Log
    from fsm_core.audit.outbox import Mismatch
    from fsm_core.audit.replaying import Reader, Step
    from fsm_core.registry import Registry
    from fsm_core.unit import Seen


class Code(StrEnum):
    """What may be wrong with a record."""

    GAP = "gap"
    """The events are not numbered 0, 1, 2, ... up to the machine's seq."""

    REPLAY = "replay"
    """An event does not replay as it was recorded. What follows it could not be checked."""

    ACTION = "action"
    """The outbox is not what the events emitted: a row is missing, too much, or other than it was emitted."""

    STATE = "state"
    """The state is not what the log makes of it."""

    VERSION = "version"
    """The machine's version is not that of its last event."""

    STATUS = "status"
    """The status, or the time of the end, is not what the log makes of it."""

    INBOX = "inbox"
    """The machine counts other held events than there are."""

    INVARIANT = "invariant"
    """A state on the way breaks an invariant of the machine."""

    RESTORE = "restore"
    """The open actions are not those that `@machine.restore` makes of the state."""

    ORPHAN = "orphan"
    """Rows of a machine that does not exist."""


class Finding(NamedTuple):
    """One thing that is wrong. machine, key: whose record (an orphan's is the id that its rows name). seq: of the event, if one."""

    code: Code
    machine: str
    key: str
    seq: int | None
    message: str


@dataclass
class Report:
    """What was found in one record.

    events: how many were replayed. unknown: versions that nobody here knows; what they decided was not replayed.
    """

    findings: list[Finding] = field(default_factory=list)
    events: int = 0
    unknown: tuple[int, ...] = ()


def fsck(log: Log, registry: Registry) -> Report:
    """Check one machine's record: its numbers; and, replayed on the code of its own versions, everything that follows from its log."""
    report = Report()
    check = _Check(log, report, registry.machine)
    check.numbers()
    if log.seen.status is MachineStatus.UNBORN:
        return report
    start = beginning(log, registry.machine)
    report.unknown = start.unknown
    if start.known:
        check.replay(start.base)
    return report


class _Check:
    """The checks of one record, which write what they find into its report."""

    def __init__(self, log: Log, report: Report, reader: Reader) -> None:
        self._log = log
        self._report = report
        self._reader = reader
        self._said: str | None = None

    def numbers(self) -> None:
        """The events have no gaps and end at the machine's seq, and the inbox is as long as it is counted."""
        seen, numbers = self._log.seen, [entry.seq for entry in self._log.entries]
        first = numbers[0] if numbers else seen.seq + 1
        if first > 0 and seen.status is not MachineStatus.UNBORN:
            kept = [base.seq for base in self._log.snapshots if base.seq >= first - 1]
            if not kept:
                self._find(
                    Code.GAP,
                    0,
                    f"the log begins at event {first}, and no snapshot goes before"
                    if numbers
                    else "there are no events",
                )
        for before, after in pairwise(numbers):
            if after != before + 1:
                self._find(Code.GAP, before + 1, f"event {before} is followed by {after}")
        if numbers and numbers[-1] != seen.seq:
            self._find(
                Code.GAP, numbers[-1], f"the last event is {numbers[-1]}, the machine is at {seen.seq}"
            )
        if seen.inbox != self._log.held:
            self._find(
                Code.INBOX, None, f"the machine counts {seen.inbox} held events, there are {self._log.held}"
            )

    def replay(self, base: Base | None) -> None:
        """Everything that follows from the log, from `base` on."""
        outbox = Outbox(self._log, routed=True)
        seen = None if base is None else based(self._log, base, self._reader)
        ended_before = seen is not None and seen.status is MachineStatus.DONE
        try:
            for step in steps(self._log, self._reader, base):
                self._report.events += 1
                self._mismatches(outbox.step(step))
                self._invariant(step)
                self._snapshots(step)
                seen = step.after
        except ReplayFailed as failure:
            if failure.event != MISSING:  # that is a gap, and has been found
                self._find(Code.REPLAY, failure.seq, f"{failure.event}: {failure.reason}")
            return
        self._mismatches(outbox.rest())
        if seen is not None:
            self._row(seen, ended_before=ended_before)
            self._restored()

    def _invariant(self, step: Step) -> None:
        """Each time that one begins to be broken, not at every event until it is whole again."""
        said = step.machine.violated(step.new)
        if said is not None and said != self._said:
            self._find(Code.INVARIANT, step.entry.seq, f"{step.after.state_name}: {said}")
        self._said = said

    def _snapshots(self, step: Step) -> None:
        for base in self._log.snapshots:
            # One of another version is what an upcast made then: it is a fact, not something that follows.
            own = (base.seq, base.version) == (step.entry.seq, step.after.version)
            if own and not self._equal(step.after, base):
                self._find(
                    Code.STATE,
                    base.seq,
                    f"the snapshot is {base.state_name} {base.state}, the log makes {_state(step.after)}",
                )

    def _row(self, made: Seen, *, ended_before: bool) -> None:
        """The machine's row against what the log makes of it."""
        seen = self._log.seen
        made = rebased(self._log, made, seen.version)
        if seen.version != made.version:
            self._find(
                Code.VERSION,
                seen.seq,
                f"the version is {seen.version}, that of the last event {made.version}",
            )
        elif not self._equal(made, seen):
            self._find(Code.STATE, seen.seq, f"the state is {_state(seen)}, the log makes {_state(made)}")
        by_hand = made.status is MachineStatus.LIVE and seen.status in (
            MachineStatus.CANCELLED,
            MachineStatus.FAILED,
        )
        if seen.status is not made.status and not by_hand:
            self._find(Code.STATUS, seen.seq, f"the status is {seen.status}, the log makes {made.status}")
        elif seen.ended_at != made.ended_at and not by_hand and not ended_before:
            self._find(Code.STATUS, seen.seq, f"the end was at {seen.ended_at}, the log says {made.ended_at}")

    def _restored(self) -> None:
        seen = self._log.seen
        machine = self._reader(seen.machine, seen.version)
        try:
            state = decode_named(machine, "state", seen.state_name, seen.state, seen.version)
            wanted = restored(machine, state)
            if wanted is None or seen.status in (MachineStatus.CANCELLED, MachineStatus.FAILED):
                return
            open_ = Counter(canonical_action(machine, row) for row in self._log.rows if is_open(row))
        except Exception as error:  # noqa: BLE001 - the user's function: whatever it raises is what was found
            self._find(Code.RESTORE, seen.seq, f"{seen.state_name}: {type(error).__name__}: {error}")
            return
        for said, rest in (
            ("is restored, and not open", wanted - open_),
            ("is open, and not restored", open_ - wanted),
        ):
            for action in sorted(rest.elements()):
                self._find(Code.RESTORE, seen.seq, f"{action} {said}")

    def _equal(self, made: Seen, other: Seen | Base) -> bool:
        machine = self._reader(made.machine, other.version)
        try:
            one = canonical(machine, "state", made.state_name, made.state, made.version)
            return one == canonical(machine, "state", other.state_name, other.state, other.version)
        except FsmError:
            return False

    def _mismatches(self, found: list[Mismatch]) -> None:
        for each in found:
            self._find(Code.ACTION, each.seq, f"{each.seq}.{each.idx}: {each.message}")

    def _find(self, code: Code, seq: int | None, message: str) -> None:
        self._report.findings.append(Finding(code, self._log.seen.machine, self._log.seen.key, seq, message))


def _state(seen: Seen) -> str:
    return f"{seen.state_name} {seen.state}"
