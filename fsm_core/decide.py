"""The whole core: `advance`, `begin` and `replay`. They run nothing, read no clock, draw no randomness."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count, repeat
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fsm_core.edges import event_key
from fsm_core.errors import TransitionError, UnhandledEvent
from fsm_core.types import ChildEnded, Decision, Failed

if TYPE_CHECKING:
    from fsm_core.context import Context
    from fsm_core.edges import Edge
    from fsm_core.machine import Machine

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")


def advance(machine: Machine[S, E, A], state: S, event: E, ctx: Context | None = None) -> Decision[S, A]:
    """Decide what `event` does in `state`.

    Returns the new state and the actions in order: the transition's own, then those of `enter` if the class of the
    state changed. `ctx` is handed to functions that ask for one.

    Raises Rejected (by the transition), UnhandledEvent (no edge, and the machine does not ignore it), UnknownType (a
    state or event of another machine), TransitionError (the function broke its own signature), TypeError (a function
    asks for a context and none was given). Source: finito, `advance :: state -> event -> (state, [action])`.
    """
    cls = type(event)
    key = cls if cls is not Failed and cls is not ChildEnded else event_key(event)
    edge = machine.edges.get((type(state), key))
    if edge is None:
        return _unhandled(machine, state, event)
    if ctx is not None:
        ctx = ctx.fresh()  # the same arguments give the same answer, whatever was drawn before
    if not edge.context:
        out = edge.function(state, event)
    elif ctx is not None:
        out = edge.function(state, event, ctx)
    else:
        raise TypeError(f"{edge.signature.place} asks for a Context; pass ctx=")
    after, actions = _taken_apart(edge, out) if type(out) is tuple else (out, [])
    if type(after) not in edge.results:
        raise TransitionError(
            f"{edge.signature.place} gave {type(after).__name__}, which its signature does not name"
        )
    if machine.final and type(state) in machine.final and after != state:
        raise TransitionError(f"{edge.signature.place} left the final state {type(state).__name__}")
    if type(after) is not type(state):
        _enter(machine, after, ctx, actions)
    if actions:
        _check(machine, actions, state, edge)
    return Decision(after, actions)


def begin(machine: Machine[S, E, A], state: S, ctx: Context | None = None) -> Decision[S, A]:
    """What a new machine in `state` does: the actions of `enter`.

    Raises UnknownType, Rejected (by `enter`), TransitionError and TypeError as `advance` does.
    """
    machine.state_name(state)
    actions: list[Any] = []
    _enter(machine, state, None if ctx is None else ctx.fresh(), actions)
    _check(machine, actions, state)
    return Decision(state, actions)


def replay(
    machine: Machine[S, E, A], state: S, events: Iterable[E], ctx: Context | Iterable[Context] | None = None
) -> Decision[S, A]:
    """Fold `advance` over `events`; returns the last state and all actions in order.

    `ctx` is the context of the first event (each later one has the next seq), or one for each event.
    Raises what `advance` raises, and ValueError if there is not one context for each event.
    """
    actions: list[A] = []
    pairs: Iterable[tuple[E, Context | None]]
    if isinstance(ctx, Iterable):
        pairs = zip(events, ctx, strict=True)
    else:
        pairs = zip(events, _contexts(ctx), strict=False)  # these contexts have no end
    for event, own in pairs:
        decision = advance(machine, state, event, own)
        state = decision.state
        actions += decision.actions
    return Decision(state, actions)


def _contexts(ctx: Context | None) -> Iterable[Context | None]:
    return repeat(None) if ctx is None else map(ctx.at, count(ctx.seq))


def _taken_apart(edge: Edge, out: tuple[Any, ...]) -> tuple[Any, list[Any]]:
    """State and actions of what a transition returned as a tuple. Raises TransitionError: it is no such pair."""
    try:
        after, actions = out
        return after, list(actions)
    except (TypeError, ValueError):
        raise TransitionError(f"{edge.signature.place} gave {out!r:.200}, not (state, [actions])") from None


def _enter(machine: Machine[Any, Any, Any], state: object, ctx: Context | None, actions: list[Any]) -> None:
    entry = machine.entries.get(type(state))
    if entry is None:
        return
    if not entry.context:
        emitted = entry.function(state)
    elif ctx is not None:
        emitted = entry.function(state, ctx)
    else:
        raise TypeError(f"{entry.signature.place} asks for a Context; pass ctx=")
    if type(emitted) is not list and not isinstance(emitted, Sequence):  # the test of an ABC is slow
        raise TransitionError(f"{entry.signature.place} gave {type(emitted).__name__}, not a list of actions")
    actions += emitted


def _check(
    machine: Machine[Any, Any, Any], actions: list[Any], state: object, edge: Edge | None = None
) -> None:
    known = machine.emittable
    for action in actions:
        if type(action) not in known:
            # Named only here: writing out a place takes longer than all the rest.
            where = f"entering {type(state).__name__}" if edge is None else edge.signature.place
            raise TransitionError(f"{where} emitted {type(action).__name__}, no action of {machine!r}")


def _unhandled(machine: Machine[S, E, A], state: S, event: E) -> Decision[S, A]:
    name, kind = machine.state_name(state), machine.event_name(event)
    if machine.unhandled == "ignore":
        return Decision(state, cast("list[A]", []))
    raise UnhandledEvent(machine.name, name, kind)
