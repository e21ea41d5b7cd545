"""What a partly lost outbox lacks, rebuilt from the state (`@machine.restore`) and the log."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from fsm_core.audit.compare import canonical
from fsm_core.audit.known import beginning
from fsm_core.audit.outbox import canonical_action, emissions, is_open, is_own
from fsm_core.audit.replaying import GENEROUS, steps
from fsm_core.codec import decode_named
from fsm_core.errors import DefinitionError, ReplayFailed, UnknownMachine
from fsm_core.rows import MAX_ACTIONS, Moment, NewAction, written

if TYPE_CHECKING:
    from datetime import datetime

    from fsm_core.audit.log import Log
    from fsm_core.audit.replaying import Step
    from fsm_core.registry import AnyMachine, Registry


class Lost(NamedTuple):
    """A row to be written again. created_at: the time of its event; a lane keeps its order."""

    row: NewAction
    created_at: datetime


def lost(log: Log, registry: Registry) -> list[Lost]:
    """The rows that the state calls for and that are not there, under the ids that they were emitted with.

    Each action of `restore` that no open row stands for is looked for among the log's emissions, the last one first. One
    whose row is there, finished, is left alone: it is `retry` that is for failed ones. One that the log does not have
    (its event was pruned) gets the next free place at the machine's seq.

    Raises DefinitionError (no `restore` for this state), UnknownMachine (its code is not here: other code may have numbered
    its actions otherwise), ReplayFailed (also if the state is not what the log makes of it).
    """
    seen = log.seen
    machine = registry.machine(seen.machine, seen.version)
    state = decode_named(machine, "state", seen.state_name, seen.state, seen.version)
    wanted = machine.restored(state)
    if wanted is None:
        raise DefinitionError(f"machine {machine.name!r} declares no restore for state {seen.state_name}")
    replayed = _replayed(log, registry)
    _agrees(machine, log, replayed)
    place = _Places(log, machine, replayed)
    return [found for action in wanted if (found := place.of(action)) is not None]


class _Places:
    """The places in the log for restored actions; each is given once."""

    def __init__(self, log: Log, machine: AnyMachine, replayed: list[Step]) -> None:
        self._log = log
        self._machine = machine
        own = [row for row in log.rows if is_own(row) and row.tracked]
        self._open = Counter(canonical_action(machine, row) for row in own if is_open(row))
        self._finished = Counter(canonical_action(machine, row) for row in own if not is_open(row))
        there = {(row.seq, row.idx) for row in log.rows}
        self._gone = [
            (step, row)
            for step in reversed(replayed)
            for row in reversed(list(emissions(step)))
            if is_own(row) and row.tracked and (row.seq, row.idx) not in there
        ]
        at_present = [row.idx for row in log.rows if row.seq == log.seen.seq]
        if replayed and replayed[-1].entry.seq == log.seen.seq:
            at_present += [row.idx for row in emissions(replayed[-1])]
        else:
            at_present.append(
                MAX_ACTIONS + 1
            )  # what that event emitted is not known; an id must not be used twice
        self._free = max(at_present, default=-1) + 1

    def of(self, action: object) -> Lost | None:
        """Where the action goes; None: a row stands for it already."""
        machine, seen = self._machine, self._log.seen
        moment = Moment(seen.id, seen.seq, seen.updated_at)
        (row,) = written(machine, moment, [action], GENEROUS).rows
        content = canonical_action(machine, row)
        if self._open[content]:
            self._open[content] -= 1
            return None
        for place in self._gone:
            step, emitted = place
            if canonical(machine, "action", emitted.name, emitted.payload, emitted.version) == content:
                self._gone.remove(place)
                return Lost(emitted, step.entry.occurred_at)
        if self._finished[content]:
            self._finished[content] -= 1
            return None
        self._free += 1
        return Lost(row._replace(idx=self._free - 1), seen.updated_at)


def _replayed(log: Log, registry: Registry) -> list[Step]:
    start = beginning(log, registry.machine)
    if not start.known:
        raise UnknownMachine(log.seen.machine, start.unknown[0], registry.names())
    return list(steps(log, registry.machine, start.base))


def _agrees(machine: AnyMachine, log: Log, replayed: list[Step]) -> None:
    """Raises ReplayFailed: the state is not what the log makes of it."""
    if not replayed:
        return
    made, seen = replayed[-1].after, log.seen
    one = canonical(machine, "state", made.state_name, made.state, made.version)
    if made.seq != seen.seq or one != canonical(machine, "state", seen.state_name, seen.state, seen.version):
        reason = (
            f"the log makes {made.state_name} {made.state}, the machine is {seen.state_name} {seen.state}"
        )
        raise ReplayFailed(seen.machine, seen.key, made.seq, replayed[-1].entry.name, reason)
