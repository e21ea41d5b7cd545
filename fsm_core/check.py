"""Static checks of a machine by its signatures: what is declared, and can never be right. Pure; runs no transition.

What a function does inside its signature is not seen: a state may be reachable by its signature and by no input.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fsm_core.reach import moves, reachable, starts
from fsm_core.signature import emitted
from fsm_core.types import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsm_core.edges import Edge
    from fsm_core.registry import AnyEffects, AnyMachine


class Code(StrEnum):
    """What is wrong. These words are a promise."""

    UNREACHABLE = "unreachable-state"  # no event leads to it from a start
    DEAD_END = "dead-end"  # nothing leads out of it, and it is not final
    UNHANDLED_EVENT = "unhandled-event"  # every state rejects it, or has no edge for it
    UNHANDLED_FAILURE = "unhandled-failure"  # its `Failed` would reach no edge, in any state that can follow
    UNKNOWN_ACTIONS = "unknown-actions"  # `To[S]`: nobody can tell what the edge emits
    NO_EFFECT = "no-effect"  # a tracked action that no worker can run


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found: what (`code`), where (`place`), and in words."""

    code: Code
    place: str
    message: str


def check(machine: AnyMachine, effects: AnyEffects | None = None) -> tuple[Finding, ...]:
    """All findings on `machine`; with its `effects`, also the tracked actions that they lack. Freezes the machine."""
    label = machine.name if machine.version == 1 else f"{machine.name} v{machine.version}"
    return (
        *_unreachable(machine, label),
        *_dead_ends(machine, label),
        *_unhandled_events(machine, label),
        *_unhandled_failures(machine, label),
        *_unknown_actions(machine, label),
        *(() if effects is None else _without_effect(machine, effects, label)),
    )


def _unreachable(machine: AnyMachine, label: str) -> Iterator[Finding]:
    begin = starts(machine)
    found = reachable(moves(machine), begin)
    names = ", ".join(name for name, member in machine.states.items() if member.cls in begin)
    for name, state in machine.states.items():
        if state.cls not in found:
            yield Finding(
                Code.UNREACHABLE, f"{label}: state {name}", f"no edge leads to it from the start ({names})"
            )


def _dead_ends(machine: AnyMachine, label: str) -> Iterator[Finding]:
    steps = moves(machine)
    for name, state in machine.states.items():
        if not steps[state.cls] and state.cls not in machine.final:
            yield Finding(
                Code.DEAD_END,
                f"{label}: state {name}",
                "no edge takes an event there; if the machine ends in it, name it in final=",
            )


def _unhandled_events(machine: AnyMachine, label: str) -> Iterator[Finding]:
    for name, event in machine.events.items():
        edges = [edge for (_, key), edge in machine.edges.items() if key == event.key]
        if not any(edge.results for edge in edges):
            message = "every edge that takes it always rejects" if edges else "no state has an edge for it"
            yield Finding(Code.UNHANDLED_EVENT, f"{label}: event {name}", message)


def _unhandled_failures(machine: AnyMachine, label: str) -> Iterator[Finding]:
    """A failure is news to the machine only if some state in which the action can be pending takes it."""
    steps = moves(machine)
    deaf: dict[str, list[str]] = {}
    for name, place, after in _emissions(machine):
        # A built-in action is in no union, and cannot fail: its outcome is known when it is set.
        action = machine.actions.get(name)
        if action is None or not action.tracked:
            continue
        edges = (machine.edges.get((state, (Failed, action.cls))) for state in reachable(steps, after))
        if not any(edge is not None and edge.results for edge in edges):
            deaf.setdefault(name, []).append(place)
    for name, places in deaf.items():
        emitters = ", ".join(dict.fromkeys(places))
        message = f"no state that can follow {emitters} takes Failed[{name}]: a failure waits for an operator"
        yield Finding(Code.UNHANDLED_FAILURE, f"{label}: action {name}", message)


def _emissions(machine: AnyMachine) -> Iterator[tuple[str, str, frozenset[type]]]:
    """Each action that a function names, with the function's place and the states right after it."""
    for (state, _), edge in machine.edges.items():
        after = frozenset({state}) if state in machine.final else edge.results
        for action in edge.result.actions or ():
            yield action.name, edge.signature.place, after
    for state, entry in machine.entries.items():
        for action in emitted(entry.signature.returns, entry.signature.place):
            yield action.name, entry.signature.place, frozenset({state})


def _unknown_actions(machine: AnyMachine, label: str) -> Iterator[Finding]:
    edges: dict[str, Edge] = {edge.signature.place: edge for edge in machine.edges.values()}
    for place, edge in edges.items():
        if edge.result.actions is None:
            yield Finding(
                Code.UNKNOWN_ACTIONS,
                f"{label}: {place}",
                "what it emits is unknown: write To[State, Action], or the state alone if it emits nothing",
            )


def _without_effect(machine: AnyMachine, effects: AnyEffects, label: str) -> Iterator[Finding]:
    for name in effects.missing():
        if machine.actions[name].tracked:
            yield Finding(Code.NO_EFFECT, f"{label}: action {name}", "no effect runs it")
