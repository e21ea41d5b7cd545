"""Static checks of a machine by its signatures: what is declared, and can never be right. Pure; runs no transition.

What a function does inside its signature is not seen: a state may be reachable by its signature and by no input.
A finding that is meant is accepted beside the machine, with a reason: `Machine(..., accept={"dead-end:Disabled": "why"})`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from fsm_core.reach import moves, reachable, starts
from fsm_core.signature import emitted
from fsm_core.types import TIMERS, ChildEnded, Failed, Spawn, Timeout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fsm_core.edges import Edge
    from fsm_core.reach import Moves
    from fsm_core.registry import AnyEffects, AnyMachine
    from fsm_core.unions import Member


class Code(StrEnum):
    """What is wrong. These words are a promise."""

    UNREACHABLE = "unreachable-state"  # no event leads to it from a start
    DEAD_END = "dead-end"  # nothing leads out of it, and it is not final
    WAITS_FOR_EVER = "waits-for-ever"  # only an event from outside leads out of it, and there is no timeout
    UNHANDLED_EVENT = "unhandled-event"  # every state rejects it, or has no edge for it
    UNHANDLED_FAILURE = "unhandled-failure"  # its `Failed` would reach no edge, in any state that can follow
    UNKNOWN_ACTIONS = "unknown-actions"  # `To[S]`: nobody can tell what the edge emits
    NO_EFFECT = "no-effect"  # a tracked action that no worker can run
    STALE_ACCEPTANCE = "stale-acceptance"  # `accept=` names what is not found


BY_EFFECTS = frozenset({Code.NO_EFFECT, Code.WAITS_FOR_EVER})
"""What can be judged only by the effects: without them, an acceptance of it is not called stale."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found: what (`code`), where (`place`), and in words.

    subject: the state, event, action or function alone, as `accept=` names it. accepted: the reason for which it may stay.
    """

    code: Code
    place: str
    message: str
    subject: str = ""
    accepted: str | None = None


def check(machine: AnyMachine, effects: AnyEffects | None = None) -> tuple[Finding, ...]:
    """All findings on `machine`, the accepted ones with their reason. Freezes the machine.

    effects: the machine's own, if they are known: then also the tracked actions that they lack, and which events they bring.
    """
    label = machine.name if machine.version == 1 else f"{machine.name} v{machine.version}"
    found = (
        *_unreachable(machine, label),
        *_dead_ends(machine, label),
        *_waiting(machine, effects, label),
        *_unhandled_events(machine, label),
        *_unhandled_failures(machine, label),
        *_unknown_actions(machine, label),
        *(() if effects is None else _without_effect(machine, effects, label)),
    )
    return (
        *(_judged(finding, machine.accepted) for finding in found),
        *_stale(found, machine.accepted, label, with_effects=effects is not None),
    )


def _judged(finding: Finding, accept: Mapping[str, str]) -> Finding:
    """The finding with the reason for which it is accepted; that of the very place comes first."""
    reason = accept.get(f"{finding.code}:{finding.subject}") or accept.get(finding.code)
    return replace(finding, accepted=reason) if reason else finding


def _stale(
    found: tuple[Finding, ...], accept: Mapping[str, str], label: str, *, with_effects: bool
) -> Iterator[Finding]:
    used = {key for finding in found for key in (f"{finding.code}:{finding.subject}", str(finding.code))}
    for key, reason in accept.items():
        code = key.partition(":")[0]
        if code not in set(Code) - {Code.STALE_ACCEPTANCE}:
            codes = ", ".join(known for known in Code if known is not Code.STALE_ACCEPTANCE)
            message = f"there is no such code; the codes are {codes}"
        elif not reason.strip():
            message = "it gives no reason"
        elif key in used or (Code(code) in BY_EFFECTS and not with_effects):
            continue
        else:
            message = "nothing is found that it would accept; remove it"
        yield Finding(Code.STALE_ACCEPTANCE, f"{label}: accept {key!r}", message, key)


def _unreachable(machine: AnyMachine, label: str) -> Iterator[Finding]:
    begin = starts(machine)
    found = reachable(moves(machine), begin)
    names = ", ".join(name for name, member in machine.states.items() if member.cls in begin)
    for name, state in machine.states.items():
        if state.cls not in found:
            message = f"no edge leads to it from the start ({names})"
            yield Finding(Code.UNREACHABLE, f"{label}: state {name}", message, name)


def _dead_ends(machine: AnyMachine, label: str) -> Iterator[Finding]:
    steps = moves(machine)
    for name, state in machine.states.items():
        if not steps[state.cls] and state.cls not in machine.final:
            yield Finding(
                Code.DEAD_END,
                f"{label}: state {name}",
                "no edge takes an event there; if the machine ends in it, name it in final=",
                name,
            )


def _waiting(machine: AnyMachine, effects: AnyEffects | None, label: str) -> Iterator[Finding]:
    """States that are to be left, and that only somebody outside can move.

    Nothing of the machine's own moves one: it has no timeout, no way into it starts a timer or an action that could bring
    an event that it takes, and it takes no result of an action that began before. A state that every edge keeps is lived in.
    """
    steps = moves(machine)
    for name, state in machine.states.items():
        leads_on = steps[state.cls] - {state.cls} and state.cls not in machine.final
        if leads_on and not _moves_by_itself(machine, effects, state, steps):
            takes = [
                event.name
                for event in machine.events.values()
                if event.from_outside and _leads(machine, state.cls, event.key)
            ]
            message = (
                f"only what comes from outside leads on ({', '.join(takes) or 'nothing'}): declare a timeout"
            )
            yield Finding(Code.WAITS_FOR_EVER, f"{label}: state {name}", message, name)


def _moves_by_itself(machine: AnyMachine, effects: AnyEffects | None, state: Member, steps: Moves) -> bool:
    if _leads(machine, state.cls, Timeout) or _enters_with_unknown(machine, state.cls):
        return True
    for emission in _emissions(machine):
        direct = state.cls in emission.after
        if emission.action.cls in TIMERS and direct:
            return True
        if state.cls not in reachable(steps, emission.after):
            continue
        brings = _brings(machine, effects, emission.action)
        keys = ((Failed, emission.action.cls), *(brings or ()))
        if (direct and brings is None) or any(_leads(machine, state.cls, key) for key in keys):
            return True
    return False


def _enters_with_unknown(machine: AnyMachine, state: type) -> bool:
    return any(state in edge.results and edge.result.actions is None for edge in machine.edges.values())


def _leads(machine: AnyMachine, state: type, key: object) -> bool:
    """Whether an edge takes the event in the state, and does not always reject it."""
    edge = machine.edges.get((state, key))
    return edge is not None and bool(edge.results)


def _brings(machine: AnyMachine, effects: AnyEffects | None, action: Member) -> frozenset[object] | None:
    """The events, by key, that an action may bring besides its `Failed`, by its effect's signature; None if unknown."""
    if action.cls is Spawn:
        return frozenset(event.key for event in machine.events.values() if event.cls is ChildEnded)
    declared = machine.actions.get(action.name)
    if declared is None or not declared.tracked:
        return frozenset()
    effect = None if effects is None else effects.effect(action.name)
    if effect is None:
        return None
    return frozenset(member.key for member in effect.brings)


def _unhandled_events(machine: AnyMachine, label: str) -> Iterator[Finding]:
    for name, event in machine.events.items():
        edges = [edge for (_, key), edge in machine.edges.items() if key == event.key]
        if not any(edge.results for edge in edges):
            message = "every edge that takes it always rejects" if edges else "no state has an edge for it"
            yield Finding(Code.UNHANDLED_EVENT, f"{label}: event {name}", message, name)


def _unhandled_failures(machine: AnyMachine, label: str) -> Iterator[Finding]:
    """A failure is news to the machine only if some state in which the action can be pending takes it."""
    steps = moves(machine)
    deaf: dict[str, list[str]] = {}
    for emitted_action, place, after in _emissions(machine):
        # A built-in action is in no union, and cannot fail: its outcome is known when it is set.
        action = machine.actions.get(emitted_action.name)
        if action is None or not action.tracked:
            continue
        edges = (machine.edges.get((state, (Failed, action.cls))) for state in reachable(steps, after))
        if not any(edge is not None and edge.results for edge in edges):
            deaf.setdefault(action.name, []).append(place)
    for name, places in deaf.items():
        emitters = ", ".join(dict.fromkeys(places))
        message = f"no state that can follow {emitters} takes Failed[{name}]: a failure waits for an operator"
        yield Finding(Code.UNHANDLED_FAILURE, f"{label}: action {name}", message, name)


class _Emission(NamedTuple):
    """An action that a function names: which, where, and the states right after it."""

    action: Member
    place: str
    after: frozenset[type]


def _emissions(machine: AnyMachine) -> Iterator[_Emission]:
    for (state, _), edge in machine.edges.items():
        after = frozenset({state}) if state in machine.final else edge.results
        for action in edge.result.actions or ():
            yield _Emission(action, edge.signature.place, after)
    for state, entry in machine.entries.items():
        for action in emitted(entry.signature.returns, entry.signature.place):
            yield _Emission(action, entry.signature.place, frozenset({state}))


def _unknown_actions(machine: AnyMachine, label: str) -> Iterator[Finding]:
    edges: dict[str, Edge] = {edge.signature.place: edge for edge in machine.edges.values()}
    for place, edge in edges.items():
        if edge.result.actions is None:
            yield Finding(
                Code.UNKNOWN_ACTIONS,
                f"{label}: {place}",
                "what it emits is unknown: write To[State, Action], or the state alone if it emits nothing",
                edge.signature.function.__name__,
            )


def _without_effect(machine: AnyMachine, effects: AnyEffects, label: str) -> Iterator[Finding]:
    for name in effects.missing():
        if machine.actions[name].tracked:
            yield Finding(Code.NO_EFFECT, f"{label}: action {name}", "no effect runs it", name)
