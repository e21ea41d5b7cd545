"""Committing what came of attempts: the action's end, its events and what they cause, all or nothing per machine.

A group never waits for a lock; what did not get through is handed back to the caller, to be tried alone. A bug in one
transition fails its own action only, and keeps the effect's result with it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fsm_core.codec import decode_named
from fsm_core.delivery.outcome import (
    Again,
    Completed,
    GaveUp,
    Released,
    Result,
    describe,
    error_json,
    from_json,
    to_json,
)
from fsm_core.delivery.ports import Claimed, Move, WorkerStore
from fsm_core.errors import (
    Busy,
    DatabaseError,
    Deadlock,
    InboxFull,
    MachineEnded,
    Rejected,
    SchemaError,
    SerializationConflict,
    UnhandledEvent,
    UnknownMachine,
)
from fsm_core.types import ActionId, ActionStatus, Failed
from fsm_core.unit import Draft, Ending, Held, Seen, Unit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from fsm_core.registry import AnyMachine, Registry

REFUSALS = (Rejected, UnhandledEvent, MachineEnded, InboxFull)
"""How a machine says that a result comes too late or does not concern it: recorded with the action, never raised."""

PASSING = (Busy, Deadlock, SchemaError, SerializationConflict)
"""What the database says of the moment, not of the result."""

REFUSED_VALUES = ("22", "23", "54")
"""Classes of sqlstate: data exception, broken constraint, limit exceeded. None at all: the driver refused the value."""


@dataclass
class Finished:
    """What became of a group.

    stuck: not yet, try them alone later. void: somebody else's by now, to be recorded as late. broken: their transition
    has a bug. refused: held events whose transition has one.
    """

    done: list[Result] = field(default_factory=list)
    stuck: list[Result] = field(default_factory=list)
    void: list[Result] = field(default_factory=list)
    broken: list[tuple[Result, BaseException]] = field(default_factory=list)
    refused: list[tuple[Held, Exception]] = field(default_factory=list)


def finish(store: WorkerStore, registry: Registry, results: Sequence[Result]) -> Finished:
    """Commit a group of results, each machine's on its own footing. Raises StoreError; then any part may be committed.

    Trying the same results again is safe: what is committed already is found by its token.
    """
    finished = Finished(void=[result for result in results if result.late])
    moves, by_machine = _sort(registry, [result for result in results if not result.late])
    _move(store, moves, finished)
    if by_machine:
        _write(store, registry, by_machine, finished)
    return finished


def finish_alone(store: WorkerStore, registry: Registry, result: Result) -> Finished:
    """The same for one result, under its machine's lock; `stuck` if the lock could not be had.

    Raises StoreError, except for what the database has against this very result: then its action stands as failed.
    """
    if _as_move(registry, result) is not None:
        return finish(store, registry, [result])
    finished = Finished()
    broken: dict[ActionId, BaseException] = {}

    def decide(seen: Seen, held: Sequence[Held]) -> Unit:
        draft = _draft(registry, seen, [result], broken)
        if draft.changed:
            draft.offer(held)
            finished.refused += draft.refused
        return draft.unit

    try:
        written = store.write_alone(result.claimed.id.machine_id, decide)
    except DatabaseError as error:
        if not _is_its_fault(error):
            raise
        broken[result.claimed.id], written = error, False
    if broken:
        _fail_broken(store, registry, [result], broken, finished)
    elif written:
        finished.done.append(result)
    else:
        _unwritten(store, [result], finished)
    return finished


def _sort(
    registry: Registry, results: Sequence[Result]
) -> tuple[list[tuple[Result, Move]], dict[UUID, list[Result]]]:
    """What only moves an action, and what concerns its machine."""
    moves: list[tuple[Result, Move]] = []
    by_machine: dict[UUID, list[Result]] = defaultdict(list)
    for result in results:
        move = _as_move(registry, result)
        if move is None:
            by_machine[result.claimed.id.machine_id].append(result)
        else:
            moves.append((result, move))
    return moves, by_machine


def _as_move(registry: Registry, result: Result) -> Move | None:
    """The move that a result amounts to, or None if its machine must be told."""
    claimed, outcome = result.claimed, result.outcome
    want = _want(claimed)
    if isinstance(outcome, Again):
        return Move(
            claimed.id, want, claimed.token, ActionStatus.PENDING, outcome.delay, attempt_outcome=outcome.kind,
            error=error_json(outcome.error), in_doubt=outcome.in_doubt,
        )  # fmt: skip
    if isinstance(outcome, Released):
        step = 0 if claimed.outcome is not None else -1
        return Move(
            claimed.id, want, claimed.token, ActionStatus.PENDING, outcome.delay, step, note=outcome.note
        )
    return None if claimed.outcome is not None else _as_end(registry, claimed, outcome)


def _as_end(registry: Registry, claimed: Claimed, outcome: Completed | GaveUp) -> Move | None:
    """The move that ends an action of which its machine need not be told."""
    if isinstance(outcome, GaveUp):
        if _failed_event(registry, claimed, outcome) is not None:
            return None
        step, error = 0 if outcome.started else -1, error_json(outcome.error)
        return Move(claimed.id, _want(claimed), claimed.token, ActionStatus.FAILED, step=step, error=error)
    if outcome.events:
        return None
    return Move(claimed.id, _want(claimed), claimed.token, ActionStatus.COMPLETED, note=outcome.note)


def _move(store: WorkerStore, moves: Sequence[tuple[Result, Move]], finished: Finished) -> None:
    if not moves:
        return
    moved = store.move([move for _, move in moves])
    finished.done += [result for result, move in moves if move.id in moved]
    _unwritten(store, [result for result, move in moves if move.id not in moved], finished)


def _write(
    store: WorkerStore, registry: Registry, by_machine: dict[UUID, list[Result]], finished: Finished
) -> None:
    rows = store.read(list(by_machine))
    units: list[tuple[Unit, list[Result]]] = []
    for machine_id, given in by_machine.items():
        results, later = _in_turn(given)
        finished.stuck += later
        broken: dict[ActionId, BaseException] = {}
        draft = _draft(registry, rows[machine_id], results, broken)
        whole = [r for r in results if r.claimed.id not in broken]
        if whole and draft.changed and rows[machine_id].inbox:
            finished.stuck += whole  # what it holds can only be read under its lock
        elif whole:
            units.append((draft.unit, whole))
        _fail_broken(store, registry, results, broken, finished)
    try:
        written = store.write([unit for unit, _ in units]) if units else set()
    except PASSING:
        raise
    except DatabaseError:
        # One of them is bad, and the group fell with it: each alone, so that only the bad one fails.
        finished.stuck += [result for _, whole in units for result in whole]
        return
    for position, (_, whole) in enumerate(units):
        if position in written:
            finished.done += whole
        else:
            _unwritten(store, whole, finished)


def _in_turn(results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """Which of one machine's results go into one unit, and which wait until it is written.

    What precedes a timer in a unit may cancel it or set it again; then it must not fire. So one timer at most, and first.
    """
    known = [result for result in results if result.claimed.outcome is not None]
    rest = [result for result in results if result.claimed.outcome is None]
    return known[:1] + rest, known[1:]


def _draft(
    registry: Registry, seen: Seen, results: Sequence[Result], broken: dict[ActionId, BaseException]
) -> Draft:
    """The unit of one machine from its results; what raises anything but a refusal goes to `broken`, and the rest anew."""
    while True:
        draft = Draft(registry.machine(seen.machine, seen.version), seen)
        for result in results:
            if result.claimed.id in broken:
                continue
            try:
                _apply(registry, draft, result)
            except Exception as bug:  # noqa: BLE001 - the user's transition; only its own action may fail by it
                broken[result.claimed.id] = bug
                break
        else:
            return draft


def _apply(registry: Registry, draft: Draft, result: Result) -> None:
    claimed, outcome = result.claimed, result.outcome
    to, error, note, events, step = ActionStatus.COMPLETED, None, None, list[object](), 0
    source = "result"
    if claimed.outcome is not None:
        known, events = from_json(registry.machine(claimed.machine, claimed.version), claimed.outcome)
        to, error, source = known.to, known.error, known.source
    elif isinstance(outcome, Completed):
        events, note = list(outcome.events), outcome.note
    elif isinstance(outcome, GaveUp):
        failed = _failed_event(registry, claimed, outcome)
        to, error, step = ActionStatus.FAILED, outcome.error, 0 if outcome.started else -1
        events = [] if failed is None else [failed]
    for event in events:
        try:
            draft.apply(event, source, cause=str(claimed.id))
        except REFUSALS as refusal:
            note = f"ignored: {describe(refusal)}"
    ending = Ending(
        claimed.id, _want(claimed), claimed.token, to, error=None if error is None else error_json(error), note=note,
        attempt=step,
    )  # fmt: skip
    draft.finish(ending)


def _failed_event(registry: Registry, claimed: Claimed, outcome: GaveUp) -> Failed[object] | None:
    """What the machine is told, if it declares that event and its class is known here."""
    try:
        machine: AnyMachine = registry.machine(claimed.machine, claimed.version)
    except UnknownMachine:
        return None
    if f"Failed[{claimed.action}]" not in machine.events:
        return None
    action = decode_named(machine, "action", claimed.action, claimed.payload)
    return Failed(action, outcome.error, claimed.used if outcome.started else claimed.used - 1)


def _fail_broken(
    store: WorkerStore,
    registry: Registry,
    results: Sequence[Result],
    broken: dict[ActionId, BaseException],
    finished: Finished,
) -> None:
    """A bug in a transition must not run the effect again: its result is kept, and the action stands as failed."""
    for result in results:
        bug = broken.get(result.claimed.id)
        if bug is None:
            continue
        claimed, outcome = result.claimed, result.outcome
        kept = claimed.outcome
        if kept is None and isinstance(outcome, Completed | GaveUp):
            failed = _failed_event(registry, claimed, outcome) if isinstance(outcome, GaveUp) else None
            kept = to_json(registry.machine(claimed.machine, claimed.version), outcome, failed)
        move = Move(
            claimed.id, _want(claimed), claimed.token, ActionStatus.FAILED, outcome=kept,
            error=error_json(f"its result could not be applied: {describe(bug)}"), note="transition",
        )  # fmt: skip
        if store.move([move]):
            finished.broken.append((result, bug))
        else:
            _unwritten(store, [result], finished)


def _unwritten(store: WorkerStore, results: Sequence[Result], finished: Finished) -> None:
    """Why were these not written? Still mine: somebody held the row. Ended under my token: my own commit. Else: void."""
    if not results:
        return
    mine = store.mine([r.claimed.id for r in results], [r.claimed.token for r in results])
    for result in results:
        status = mine.get(result.claimed.id)
        if status == _want(result.claimed):
            finished.stuck.append(result)
        elif status in (ActionStatus.COMPLETED, ActionStatus.FAILED) or (
            status is ActionStatus.PENDING and isinstance(result.outcome, Again | Released)
        ):
            finished.done.append(result)
        else:
            finished.void.append(result)


def _is_its_fault(error: DatabaseError) -> bool:
    """Whether the database refuses these very values; a full disk or a cancelled statement says nothing of the result."""
    return not isinstance(error, PASSING) and (error.sqlstate is None or error.sqlstate[:2] in REFUSED_VALUES)


def _want(claimed: Claimed) -> ActionStatus:
    return ActionStatus.RUNNING if claimed.outcome is None else ActionStatus.PUBLISHED


def late_json(result: Result, registry: Registry) -> str:
    """A void result as its attempt keeps it."""
    outcome = result.outcome
    if isinstance(outcome, Completed):
        return to_json(registry.machine(result.claimed.machine, result.claimed.version), outcome, None)
    return error_json(getattr(outcome, "error", type(outcome).__name__))
