"""Which state can follow which, by the signatures alone. Pure; what pictures and static checks stand on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from fsm_core.registry import AnyMachine

Moves: TypeAlias = Mapping[type, frozenset[type]]
"""Class of a state -> the classes that one event can give, its own included where an edge may keep it."""


def moves(machine: AnyMachine) -> Moves:
    """Every step that an edge declares. A final state has none: what `otherwise` answers there keeps it."""
    found: dict[type, set[type]] = {member.cls: set() for member in machine.states.values()}
    for (state, _), edge in machine.edges.items():
        if state not in machine.final:
            found[state] |= edge.results
    return {state: frozenset(results) for state, results in found.items()}


def starts(machine: AnyMachine) -> frozenset[type]:
    """The states that a new machine may be in: `initial=`; without one, those to which no other state leads.

    A state that nothing leads to and that leads nowhere is no start. Where each state has one before it, all are starts.
    """
    if machine.initial is not None:
        return frozenset({type(machine.initial)})
    steps = moves(machine)
    led_to = {after for state, results in steps.items() for after in results if after is not state}
    found = frozenset(state for state, results in steps.items() if results and state not in led_to)
    return found or frozenset(steps)


def reachable(steps: Moves, begin: Iterable[type]) -> frozenset[type]:
    """The states that can follow those of `begin`, themselves included."""
    found: set[type] = set()
    waiting = list(begin)
    while waiting:
        state = waiting.pop()
        if state not in found:
            found.add(state)
            waiting += steps[state]
    return frozenset(found)
