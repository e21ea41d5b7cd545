"""Replaying a log, event by event, by the very code that wrote it (`Draft`), with the recorded contexts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsm_core.births import Bounds, birth
from fsm_core.codec import decode_named
from fsm_core.context import Context
from fsm_core.decide import advance, begin
from fsm_core.draft import Draft
from fsm_core.errors import EventNotFound, Rejected, ReplayFailed
from fsm_core.payload import Limits
from fsm_core.types import Decision, MachineStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsm_core.audit.log import Base, Entry, Log
    from fsm_core.records import Snapshot
    from fsm_core.registry import AnyMachine
    from fsm_core.unit import Seen, Unit

    Reader = Callable[[str, int], AnyMachine]
    """Who reads what a version wrote, by name and version: `Registry.machine`. Raises UnknownMachine."""
MISSING = "(missing)"
"""What `ReplayFailed.event` says of an event that is not in the log."""

GENEROUS = Limits(size=1 << 40, depth=200, items=1 << 40)
"""What is recorded was within the limits of its day; those of today say nothing about it."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one event did when it was replayed.

    before, after: the machine's row around it (`before` is None for the birth), its time in `after.at`. old, new: the states as
    values. event: None for the birth. unit: what it would write.
    """

    machine: AnyMachine
    entry: Entry
    before: Seen | None
    after: Seen
    old: Any
    new: Any
    event: Any
    unit: Unit

    def decision(self) -> Decision[Any, Any]:
        """The step's decision once more, with its actions as values; none where the event was refused."""
        ctx = Context(self.entry.occurred_at, self.after.id, self.after.key, self.entry.seq)
        if self.entry.refused:
            return Decision(self.new, [])
        if self.entry.seq == 0:
            return begin(self.machine, self.new, ctx)
        return advance(self.machine, self.old, self.event, ctx)


def steps(log: Log, reader: Reader, base: Base | None = None) -> Iterator[Step]:
    """Replay the log from `base` (None: from the birth) to its last event.

    Raises ReplayFailed, which names the event: it is missing, its type is gone, its transition refuses it now or breaks,
    or it was refused then and is taken now. UnknownMachine: `reader` knows nobody for its version.
    """
    seen = _blank(log.seen) if base is None else based(log, base, reader)
    following = 0 if base is None else base.seq + 1
    for entry in log.entries:
        if entry.seq < following:
            continue
        if entry.seq > following:
            raise _failed(log, following, MISSING, "it is not in the log")
        # A held event keeps the version that it was sent to; refused later, it met the machine as it was then.
        machine = reader(log.seen.machine, seen.version if entry.refused else entry.version)
        try:
            step = _step(machine, rebased(log, seen, machine.version)._replace(at=entry.occurred_at), entry)
        except Exception as error:
            said = str(error) if isinstance(error, _Otherwise) else f"{type(error).__name__}: {error}"
            raise _failed(log, entry.seq, entry.name, said) from error
        yield step
        seen, following = step.after, entry.seq + 1


def state_at(log: Log, seq: int, reader: Reader) -> Snapshot[Any]:
    """The machine right after event `seq`, replayed from the nearest snapshot before it, or from its birth.

    Raises EventNotFound, ReplayFailed, UnknownMachine.
    """
    if not any(entry.seq == seq for entry in log.entries):
        raise EventNotFound(log.seen.machine, log.seen.key, seq, log.seen.seq)
    base = nearest(log, seq)
    seen = None if base is None else based(log, base, reader)
    for step in steps(log.upto(seq), reader, base):
        seen = step.after
    assert seen is not None  # noqa: S101 - event `seq` is in the log: it was replayed, or a snapshot is of it
    return snapshot(seen, reader)


def nearest(log: Log, seq: int) -> Base | None:
    """The last snapshot that is not after event `seq`."""
    return max((base for base in log.snapshots if base.seq <= seq), default=None)


def snapshot(seen: Seen, reader: Reader) -> Snapshot[Any]:
    """The row as the answer of a verb. Raises UnknownMachine, InvalidPayload, UnknownType."""
    return Draft(reader(seen.machine, seen.version), seen, GENEROUS).snapshot


def based(log: Log, base: Base, reader: Reader) -> Seen:
    """The machine's row as it was right after the event of `base`. Raises UnknownMachine, UnknownType, InvalidPayload."""
    machine = reader(log.seen.machine, base.version)
    ended = machine.is_final(decode_named(machine, "state", base.state_name, base.state, base.version))
    at = next((e.occurred_at for e in log.entries if e.seq == base.seq), log.seen.created_at)
    return _blank(log.seen)._replace(
        version=base.version, status=MachineStatus.DONE if ended else MachineStatus.LIVE, state_name=base.state_name,
        state=base.state, seq=base.seq, at=at, updated_at=at, ended_at=at if ended else None,
    )  # fmt: skip


def rebased(log: Log, seen: Seen, version: int) -> Seen:
    """The row in the shape of the version that comes next: as it was upcast then, if that is recorded."""
    if seen.version == version:
        return seen
    then = next((base for base in log.snapshots if (base.seq, base.version) == (seen.seq, version)), None)
    if then is None:
        return seen
    return seen._replace(version=then.version, state_name=then.state_name, state=then.state)


def _step(machine: AnyMachine, seen: Seen, entry: Entry) -> Step:
    if entry.seq == 0:
        state = decode_named(machine, "state", entry.name, entry.payload, entry.version)
        unit, _ = birth(machine, state, seen, Bounds(GENEROUS))
        return Step(machine, entry, None, _after(unit, entry), None, state, None, unit)
    draft = Draft(machine, seen, GENEROUS)
    old, event = draft.state, decode_named(machine, "event", entry.name, entry.payload, entry.version)
    try:
        draft.apply(event, entry.source)
    except Rejected:
        if not entry.refused:
            raise
        return Step(machine, entry, seen, seen._replace(seq=entry.seq), old, old, event, draft.unit)
    unit = draft.unit
    if unit.held:
        raise _Otherwise("no edge takes it; it would be held")
    outcome = unit.events[-1].outcome
    if outcome != entry.outcome:
        raise _Otherwise(f"it is recorded as {entry.outcome}, and would be {outcome}")
    return Step(machine, entry, seen, _after(unit, entry), old, draft.state, event, unit)


def _after(unit: Unit, entry: Entry) -> Seen:
    at = entry.occurred_at
    return unit.seen._replace(
        version=unit.version, status=unit.status, state_name=unit.state_name, state=unit.state, seq=entry.seq, at=at,
        updated_at=at, ended_at=(unit.seen.ended_at or at) if unit.ended else None,
    )  # fmt: skip


def _blank(seen: Seen) -> Seen:
    """The row before its birth: what is true of it always, and nothing else."""
    return seen._replace(
        status=MachineStatus.UNBORN, state_name="", state="", seq=0, rev=0, inbox=0, at=seen.created_at,
        updated_at=seen.created_at, ended_at=None,
    )  # fmt: skip


def _failed(log: Log, seq: int, event: str, reason: str) -> ReplayFailed:
    return ReplayFailed(log.seen.machine, log.seen.key, seq, event, reason)


class _Otherwise(Exception):
    """The event is decided otherwise than it is recorded."""
