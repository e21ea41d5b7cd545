"""The edges of a `Steps` machine: what any machine would declare with `on` and `enter`, here the same for all of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Never, TypeAlias, Union

from fsm_core.edges import Edge, Entry
from fsm_core.signature import Result, Signature
from fsm_core.steps import moves
from fsm_core.steps.outcomes import OUTCOMES, Await, Gather, Next, Replay, Stop, TimedOut
from fsm_core.types import After, Cancel, CancelChildren, ChildEnded, Failed, Spawn
from fsm_core.unions import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsm_core.steps.steps import AnySteps

Row: TypeAlias = "tuple[Callable[..., Any], Sequence[type], Sequence[Member], Sequence[type], Sequence[type]]"
"""A move: the states and the events that it takes, the states that it gives, and the actions that it may emit."""

RUNNING: tuple[type, ...] = (Next, Replay)


def wire(steps: AnySteps) -> tuple[dict[tuple[type, object], Edge], dict[type, Entry]]:
    """All edges and entries, once every step is declared."""
    runs = [member.cls for member in steps.actions.values()]
    by_class = {member.cls: member for member in steps.events.values() if member.of is None}
    children = [member for member in steps.events.values() if member.cls is ChildEnded]
    unborn = [member for member in steps.events.values() if (member.cls, member.of) == (Failed, Spawn)]
    failures = [member for member in steps.events.values() if member.cls is Failed and member.of is not Spawn]
    ends = (Cancel, CancelChildren)
    rows: list[Row] = [
        *(_given(state, by_class[event], runs) for state in RUNNING for event in OUTCOMES),
        (moves.lost, RUNNING, failures, [Stop], []),
        (moves.wake, [Await], steps.signals, [Next], [Cancel]),
        (moves.overdue, [Await], [by_class[TimedOut]], [Next], []),
        (moves.ended, [Gather], children, [Gather, Next], ends),
        (moves.unborn, [Gather], unborn, [Gather, Next], ends),
        (moves.late, [Gather], [by_class[TimedOut]], [Next], [CancelChildren]),
    ]
    edges = {(state, event.key): _edge(steps, *row) for row in rows for state in row[1] for event in row[2]}
    entries = {state: _entry(steps, moves.run, runs) for state in RUNNING}
    return edges, {**entries, **{state: _entry(steps, moves.wait, [After]) for state in (Await, Gather)}}


def _given(state: type, event: Member, runs: Sequence[type]) -> Row:
    """What a step gave is the next state; of the same class it says itself what is run, and so does a `Gather` of nothing."""
    outcome = event.cls
    emits = [Spawn] if outcome is Gather else []
    results = [Gather, Next] if outcome is Gather else [outcome]
    return moves.outcome, [state], [event], results, [*emits, *(runs if state in results else ())]


def _edge(
    steps: AnySteps, function: Callable[..., Any], _states: object, _events: object, results: Sequence[type],
    emits: Sequence[type],
) -> Edge:  # fmt: skip
    members = tuple(member for member in steps.states.values() if member.cls in results)
    named = Result(members, tuple(Member(cls) for cls in emits))
    return Edge(partial(function, steps), True, frozenset(results), _signature(function, emits), named)  # noqa: FBT003 - a record


def _entry(steps: AnySteps, function: Callable[..., Any], emits: Sequence[type]) -> Entry:
    return Entry(partial(function, steps), True, _signature(function, emits))  # noqa: FBT003 - a record


def _signature(function: Callable[..., Any], emits: Sequence[type]) -> Signature:
    emitted: Any = Union[tuple(emits)] if emits else Never  # noqa: UP007 - made at run time
    return Signature(function, (), True, list[emitted])  # noqa: FBT003 - a record
