"""Committing what came of attempts: the action's end, its events and what they cause, all or nothing per machine.

A group never waits for a lock; what did not get through is handed back to the caller, to be tried alone. A bug in one
transition fails its own action only, and keeps the effect's result with it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fsm_core.delivery.addressing import addressed, delivered
from fsm_core.delivery.ahead import Ahead, reserved
from fsm_core.delivery.applying import drafted, failed_event, kept, offered, target_of, want
from fsm_core.delivery.outcome import (
    Again,
    Completed,
    Delivered,
    GaveUp,
    Released,
    Result,
    describe,
    error_json,
    to_json,
    unknown,
)
from fsm_core.delivery.ports import Claimed, Move, WorkerStore
from fsm_core.errors import (
    Busy,
    ConstraintViolated,
    DatabaseError,
    Deadlock,
    SchemaError,
    Sealed,
    SerializationConflict,
    UnknownMachine,
)
from fsm_core.types import ActionId, ActionStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from fsm_core.births import Address
    from fsm_core.registry import Registry
    from fsm_core.unit import Held, Seen, Unit

PASSING = (Busy, Deadlock, SchemaError, SerializationConflict)
"""What the database says of the moment, not of the result."""

REFUSED_VALUES = ("22", "23", "54")
"""Classes of sqlstate: data exception, broken constraint, limit exceeded. None at all: the driver refused the value."""


@dataclass
class Finished:
    """What became of a group.

    stuck: not yet, try them alone later. alone: they take more than a group can do, try them alone at once. void: somebody else's by
    now, to be recorded as late. broken: their transition has a bug. refused: held events whose transition has one.
    """

    done: list[Result] = field(default_factory=list)
    stuck: list[Result] = field(default_factory=list)
    alone: list[Result] = field(default_factory=list)
    void: list[Result] = field(default_factory=list)
    broken: list[tuple[Result, BaseException]] = field(default_factory=list)
    refused: list[tuple[Held, Exception]] = field(default_factory=list)


def finish(store: WorkerStore, registry: Registry, results: Sequence[Result]) -> Finished:
    """Commit a group of results, each machine's on its own footing. Raises StoreError; then any part may be committed.

    Trying the same results again is safe: what is committed already is found by its token.
    """
    finished = Finished(void=[result for result in results if result.late])
    live = [result for result in results if not result.late]
    moves = [(result, move) for result in live if (move := _as_move(registry, result)) is not None]
    moved = {id(result) for result, _ in moves}
    rest = [result for result in live if id(result) not in moved]
    whom = addressed(store, rest)
    finished.alone += whom.children
    by_machine: dict[UUID, list[Result]] = defaultdict(list)
    for result, machine in whom.machines:
        by_machine[machine].append(result)
    _move(store, [*moves, *whom.moves], finished)
    if by_machine:
        _write(store, registry, by_machine, finished)
    return finished


def finish_alone(store: WorkerStore, registry: Registry, result: Result) -> Finished:
    """The same for one result, under the lock of the machine that it concerns; `stuck` if the lock could not be had.

    Raises StoreError, except for what the database has against this very result: then its action stands as failed.
    """
    finished = Finished()
    if result.late or _as_move(registry, result) is not None:
        return finish(store, registry, [result])
    whom = addressed(store, [result])
    if whom.children:
        done = store.cancel_children(result.claimed.id, "its parent has cancelled it")
        moves = [(result, delivered(result.claimed))] if done else []
        finished.stuck += [] if done else [result]
        _move(store, moves, finished)
    elif whom.moves:
        _move(store, whom.moves, finished)
    else:
        _alone(store, registry, result, whom.machines[0][1], finished)
    return finished


def _alone(store: WorkerStore, registry: Registry, result: Result, machine: UUID, finished: Finished) -> None:
    broken: dict[ActionId, BaseException] = {}
    refused: list[tuple[Held, Exception]] = []
    violated: ConstraintViolated | None = None

    def decide(seen: Seen, held: Sequence[Held], taken: frozenset[Address], *, offer: bool) -> Unit:
        broken.clear()
        draft = drafted(registry, seen, [result], broken, taken, refused=violated)
        if offer:
            offered(draft, held)
        refused[:] = draft.refused
        return draft.unit

    try:
        try:
            written = store.write_alone(machine, decide)
        except ConstraintViolated as error:
            violated = error
            written = store.write_alone(machine, decide)
    except (UnknownMachine, Sealed) as error:
        _move(store, [(result, _unread(registry, result, error))], finished)
        return
    except DatabaseError as error:
        if not is_its_fault(error):
            raise
        broken[result.claimed.id], written = error, False
    finished.refused += refused
    if broken:
        _fail_broken(store, registry, [result], broken, finished)
    elif written:
        finished.done.append(result)
    else:
        _unwritten(store, [result], finished)


def _as_move(registry: Registry, result: Result) -> Move | None:
    """The move that a result amounts to, or None if its machine must be told."""
    claimed, outcome = result.claimed, result.outcome
    status = want(claimed)
    if isinstance(outcome, Again):
        return Move(
            claimed.id, status, claimed.token, ActionStatus.PENDING, outcome.delay, attempt_outcome=outcome.kind,
            error=error_json(outcome.error), in_doubt=outcome.in_doubt,
        )  # fmt: skip
    if isinstance(outcome, Delivered):
        return _as_delivered(claimed, outcome)
    if isinstance(outcome, Released):
        step = 0 if claimed.outcome is not None else -1
        return Move(
            claimed.id, status, claimed.token, ActionStatus.PENDING, outcome.delay, step, note=outcome.note
        )
    return None if claimed.outcome is not None else _as_end(registry, claimed, outcome)


def _as_delivered(claimed: Claimed, outcome: Delivered) -> Move:
    """The end of a message that another database has taken, or was to take."""
    if outcome.error is None:
        return delivered(claimed, outcome.note)
    return Move(
        claimed.id, want(claimed), claimed.token, ActionStatus.FAILED, error=error_json(outcome.error),
        note="transition",
    )  # fmt: skip


def _as_end(registry: Registry, claimed: Claimed, outcome: Completed | GaveUp) -> Move | None:
    """The move that ends an action of which its machine need not be told."""
    if isinstance(outcome, GaveUp):
        if failed_event(registry, claimed, outcome) is not None:
            return None
        step, error = 0 if outcome.started else -1, error_json(outcome.error)
        return Move(claimed.id, want(claimed), claimed.token, ActionStatus.FAILED, step=step, error=error)
    if outcome.events:
        return None
    return Move(claimed.id, want(claimed), claimed.token, ActionStatus.COMPLETED, note=outcome.note)


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
    following: dict[Ahead, tuple[int, Claimed]] = {}
    for machine, given in by_machine.items():
        results, later = _in_turn(given)
        finished.stuck += later
        decided = _decided(store, registry, rows.get(machine), results, finished)
        if decided is not None:
            units.append((decided, [r for r in results if _ends(decided, r)]))
            following |= _following(registry, len(units) - 1, *units[-1])
    try:
        written = store.write([unit for unit, _ in units]) if units else set()
    except PASSING:
        raise
    except DatabaseError:
        # One of them is bad, and the group fell with it: each alone, so that only the bad one fails.
        finished.stuck += [result for _, whole in units for result in whole]
        return
    for ahead, (position, claimed) in following.items():
        ahead.settle(claimed if position in written else None)
    for position, (_, whole) in enumerate(units):
        if position in written:
            finished.done += whole
        else:
            _unwritten(store, whole, finished)


def _decided(
    store: WorkerStore, registry: Registry, seen: Seen | None, results: Sequence[Result], finished: Finished
) -> Unit | None:
    """The unit of one machine's results. None: there is nothing that a group can write; what becomes of them is in `finished`."""
    if seen is None:
        gone = [(r, delivered(r.claimed, "ignored: the machine is gone")) for r in results]
        _move(store, gone, finished)
        return None
    broken: dict[ActionId, BaseException] = {}
    try:
        draft = drafted(registry, seen, results, broken)
    except (UnknownMachine, Sealed) as error:
        _move(store, [(r, _unread(registry, r, error)) for r in results], finished)
        return None
    whole = [r for r in results if r.claimed.id not in broken]
    _fail_broken(store, registry, results, broken, finished)
    if whole and (draft.unit.alone or draft.offers):
        finished.alone += whole  # what it holds, and what is taken, can only be read under its lock
        return None
    return draft.unit if whole else None


def _ends(unit: Unit, result: Result) -> bool:
    return any(ending.id == result.claimed.id for ending in unit.endings)


def _following(
    registry: Registry, position: int, unit: Unit, results: Sequence[Result]
) -> dict[Ahead, tuple[int, Claimed]]:
    """What the slots of these results go on with, if the unit at `position` is written."""
    aheads = [result.ahead for result in results if result.ahead is not None]
    return {ahead: (position, claimed) for ahead, claimed in reserved(registry, unit, aheads).items()}


def _in_turn(results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """Which of one machine's results go into one unit, and which wait until it is written.

    What precedes a timer in a unit may cancel it or set it again; then it must not fire. So one timer at most, and first.
    """
    timers = [r for r in results if r.claimed.outcome is not None and target_of(r.claimed) is None]
    rest = [result for result in results if result not in timers]
    return timers[:1] + rest, timers[1:]


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
        claimed = result.claimed
        move = Move(
            claimed.id, want(claimed), claimed.token, ActionStatus.FAILED, outcome=kept(registry, result),
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
        if status == want(result.claimed):
            finished.stuck.append(result)
        elif status in (ActionStatus.COMPLETED, ActionStatus.FAILED) or (
            # A retry of what is under a limit is blocked again.
            status in (ActionStatus.PENDING, ActionStatus.BLOCKED)
            and isinstance(result.outcome, Again | Released)
        ):
            finished.done.append(result)
        else:
            finished.void.append(result)


def is_its_fault(error: DatabaseError) -> bool:
    """Whether the database refuses these very values; a full disk or a cancelled statement says nothing of the result."""
    return not isinstance(error, PASSING) and (error.sqlstate is None or error.sqlstate[:2] in REFUSED_VALUES)


def _unread(registry: Registry, result: Result, error: UnknownMachine | Sealed) -> Move:
    """Nobody here reads the machine that it concerns: it goes back for a worker that does, an outcome that is known with it."""
    claimed = result.claimed
    released = unknown(claimed, f"no worker here can apply it: {describe(error)}")
    return Move(
        claimed.id, want(claimed), claimed.token, ActionStatus.PENDING, released.delay, outcome=kept(registry, result),
        note=released.note,
    )  # fmt: skip


def late_json(result: Result, registry: Registry) -> str:
    """A void result as its attempt keeps it."""
    outcome = result.outcome
    if isinstance(outcome, Completed):
        return to_json(registry.reader(result.claimed.machine, result.claimed.version), outcome, None)
    return error_json(getattr(outcome, "error", type(outcome).__name__))
