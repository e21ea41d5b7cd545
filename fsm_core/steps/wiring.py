"""The edges of a `Steps` machine: what any machine would declare with `on` and `enter`, here the same for all of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Never, Union

from fsm_core.edges import Edge, Entry
from fsm_core.signature import Result, Signature
from fsm_core.steps import moves
from fsm_core.steps.outcomes import OUTCOMES, Await, Gather, Next, Replay, Stop, TimedOut
from fsm_core.types import After, Cancel, CancelChildren, ChildEnded, Failed, Spawn
from fsm_core.unions import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsm_core.steps.steps import AnySteps

RUNNING: tuple[type, ...] = (Next, Replay)


def wire(steps: AnySteps) -> tuple[dict[tuple[type, object], Edge], dict[type, Entry]]:
    """All edges and entries, once every step is declared."""
    runs = [member.cls for member in steps.actions.values()]
    by_class = {member.cls: member for member in steps.events.values() if member.of is None}
    children = [member for member in steps.events.values() if member.cls is ChildEnded]
    unborn = [member for member in steps.events.values() if (member.cls, member.of) == (Failed, Spawn)]
    failures = [member for member in steps.events.values() if member.cls is Failed and member.of is not Spawn]
    outcomes, timed_out = [by_class[cls] for cls in OUTCOMES], [by_class[TimedOut]]
    rest = (Cancel, CancelChildren)
    table: list[tuple[Callable[..., Any], Sequence[type], Sequence[Member], Sequence[type], Sequence[type]]] = [
        (moves.outcome, RUNNING, outcomes, OUTCOMES, [*runs, Spawn]),
        (moves.lost, RUNNING, failures, [Stop], []),
        (moves.wake, [Await], steps.signals, [Next], [Cancel]),
        (moves.overdue, [Await], timed_out, [Next], []),
        (moves.ended, [Gather], children, [Gather, Next], rest),
        (moves.unborn, [Gather], unborn, [Gather, Next], rest),
        (moves.late, [Gather], timed_out, [Next], [CancelChildren]),
    ]  # fmt: skip
    edges: dict[tuple[type, object], Edge] = {}
    for function, states, events, results, emits in table:
        named = Result(
            tuple(m for m in steps.states.values() if m.cls in results), tuple(Member(cls) for cls in emits)
        )
        edge = Edge(partial(function, steps), True, frozenset(results), _signature(function, emits), named)  # noqa: FBT003 - a record
        edges.update({(state, event.key): edge for state in states for event in events})
    entries = {state: _entry(steps, moves.run, runs) for state in RUNNING}
    return edges, {**entries, **{state: _entry(steps, moves.wait, [After]) for state in (Await, Gather)}}


def _entry(steps: AnySteps, function: Callable[..., Any], emits: Sequence[type]) -> Entry:
    return Entry(partial(function, steps), True, _signature(function, emits))  # noqa: FBT003 - a record


def _signature(function: Callable[..., Any], emits: Sequence[type]) -> Signature:
    emitted: Any = Union[tuple(emits)] if emits else Never  # noqa: UP007 - made at run time
    return Signature(function, (), True, list[emitted])  # noqa: FBT003 - a record
