"""`check-upgrade`: would the code that is here have decided as the code did that wrote the log?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fsm_core.audit.compare import FieldChange, of_states
from fsm_core.audit.known import beginning
from fsm_core.audit.outbox import Mismatch, Outbox, shown
from fsm_core.audit.replaying import steps
from fsm_core.codec import decode_named
from fsm_core.errors import FsmError, ReplayFailed

if TYPE_CHECKING:
    from fsm_core.audit.log import Log
    from fsm_core.audit.replaying import Step
    from fsm_core.registry import Registry


class Emission(NamedTuple):
    """An action that differs. recorded: as its row has it; replayed: as this code would emit it. None: there is none."""

    idx: int
    recorded: str | None
    replayed: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """The first event of a machine's log that this code decides otherwise.

    error: why it does not take it at all. actions: those that differ. state: how the recorded state (the `before` of each
    change) differs from this code's. States in between are not recorded, so that only the last one can be compared.
    """

    machine: str
    key: str
    seq: int
    event: str
    error: str | None = None
    actions: tuple[Emission, ...] = ()
    state: tuple[FieldChange, ...] = ()


class Checked(NamedTuple):
    """One machine's answer. events: how many were replayed. unknown: versions that nobody here reads; what they wrote was not."""

    difference: Difference | None
    events: int
    unknown: tuple[int, ...]


def upgraded(log: Log, registry: Registry) -> Checked:
    """Replay a log on the code that is here: that of its own versions, else of a newer one that reads them (`upcast`)."""
    reader = registry.reader
    start = beginning(log, reader)
    if not start.known:
        return Checked(None, 0, start.unknown)
    outbox, last, events = Outbox(log, routed=False), None, 0
    wrong: list[Mismatch] = []
    try:
        for step in steps(log, reader, start.base):
            wrong += outbox.step(step)
            last, events = step, events + 1
        wrong += outbox.rest()
    except ReplayFailed as failure:
        if not wrong:
            difference = Difference(
                log.seen.machine, log.seen.key, failure.seq, failure.event, error=failure.reason
            )
            return Checked(difference, events, start.unknown)
    if wrong:
        return Checked(_emitted_otherwise(log, wrong), events, start.unknown)
    return Checked(None if last is None else _ended_otherwise(log, last), events, start.unknown)


def _emitted_otherwise(log: Log, wrong: list[Mismatch]) -> Difference:
    seq = min(each.seq for each in wrong)
    name = next((entry.name for entry in log.entries if entry.seq == seq), "")
    actions = tuple(
        Emission(each.idx, each.recorded and shown(each.recorded), each.emitted and shown(each.emitted))
        for each in wrong
        if each.seq == seq
    )
    return Difference(log.seen.machine, log.seen.key, seq, name, actions=actions)


def _ended_otherwise(log: Log, last: Step) -> Difference | None:
    seen, entry = log.seen, last.entry
    try:
        recorded = decode_named(last.machine, "state", seen.state_name, seen.state, seen.version)
    except FsmError as error:
        return Difference(seen.machine, seen.key, entry.seq, entry.name, error=f"the state as it is: {error}")
    changed = tuple(of_states(recorded, last.new))
    return Difference(seen.machine, seen.key, entry.seq, entry.name, state=changed) if changed else None
