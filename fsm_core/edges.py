"""What a machine is declared with: edges, entries, timeouts, and the checks of its unions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fsm_core.errors import DefinitionError
from fsm_core.types import BUILT_IN, WRAPPERS, ChildEnded, Failed, Spawn, Timeout, wrapped
from fsm_core.unions import Member, members

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsm_core.context import Context
    from fsm_core.signature import Result, Signature
    from fsm_core.types import Change, Route

RESERVED = {
    "action": frozenset(cls.__name__ for cls in (*BUILT_IN, ChildEnded, Timeout)),
    "event": frozenset({Timeout.__name__}),
}
"""What rows of the engine's own are called, by role."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One transition function: what it takes and what it may give. `fallback`: declared by `otherwise`."""

    function: Callable[..., Any]
    context: bool
    results: frozenset[type]
    signature: Signature
    result: Result
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One `enter` function."""

    function: Callable[..., Sequence[object]]
    context: bool
    signature: Signature


@dataclass(frozen=True, slots=True)
class StateTimeout:
    """How long a state may last: a timedelta, or a function of the state that gives one."""

    after: Callable[[Any], timedelta]
    signature: Signature


@dataclass(frozen=True, slots=True)
class Upcaster:
    """From the shape `old` of an earlier version to a value of the present one."""

    old: type
    function: Callable[[Any], Any]
    signature: Signature


@dataclass(slots=True)
class Tables:
    """What the decorators fill in; dispatch is one look-up in each.

    upcasters: by the version that wrote the row, the role ("state", "event", "action") and the name that it has there.
    """

    edges: dict[tuple[type, object], Edge] = field(default_factory=dict)
    fallbacks: dict[tuple[type, object], Edge] = field(default_factory=dict)
    entries: dict[type, Entry] = field(default_factory=dict)
    timeouts: dict[type, StateTimeout] = field(default_factory=dict)
    routes: dict[type, Callable[[Any], Route]] = field(default_factory=dict)
    restores: dict[type, Entry] = field(default_factory=dict)
    invariants: dict[type, list[Callable[[Any], object]]] = field(default_factory=dict)
    projections: list[Callable[[Change[Any, Any]], Sequence[object]]] = field(default_factory=list)
    upcasters: dict[tuple[int, str, str], Upcaster] = field(default_factory=dict)


def without_event(function: Callable[..., Any], state: object, _event: Timeout, *ctx: Context) -> object:
    """Call the function of a state timeout, which takes no event."""
    return function(state, *ctx)


def constant(span: timedelta, _state: object) -> timedelta:
    """`span`, whatever the state is."""
    return span


def span_of(after: float | timedelta) -> timedelta:
    """Seconds or a timedelta as a timedelta. Raises DefinitionError, if it is negative."""
    span = after if isinstance(after, timedelta) else timedelta(seconds=after)
    if span < timedelta(0):
        raise DefinitionError(f"a timeout cannot be negative: {after}")
    return span


def event_key(event: object) -> object:
    """What dispatch looks up for an event: its class; for a wrapper, that and the class of what it holds."""
    cls = type(event)
    return cls if cls not in WRAPPERS else (cls, type(wrapped(event)))  # type: ignore[arg-type]


def described(value: object) -> str:
    """What messages call the class of a value."""
    name = type(value).__name__
    return f"{name}[{type(wrapped(value)).__name__}]" if isinstance(value, WRAPPERS) else name


def by_name(form: object, role: str, here: str) -> dict[str, Member]:
    """The members of a union by name. Raises DefinitionError: a name stands twice, or is a built-in's."""
    where = f"{here}, {role}s"
    named: dict[str, Member] = {}
    for member in members(form, where):
        if member.name in RESERVED.get(role, ()):
            raise DefinitionError(
                f"{where}: {member.name} is the name of a built-in; call yours something else"
            )
        if member.name in named:
            raise DefinitionError(
                f"{where}: two classes are called {member.name!r}; rows could not tell them apart"
            )
        named[member.name] = member
    return named


def finals(final: object, states: dict[str, Member], here: str) -> frozenset[type]:
    """The classes of the final states. Raises DefinitionError: one is no declared state."""
    if final is None:
        return frozenset()
    named = members(final, f"{here}, final")
    for member in named:
        if states.get(member.name) != member:
            raise DefinitionError(f"{here}, final: {member.name} is no declared state")
    return frozenset(m.cls for m in named)


def check_failed(events: dict[str, Member], actions: dict[str, Member], here: str) -> None:
    """Raises DefinitionError, if a `Failed` is declared for what is no tracked action."""
    by_class = {m.cls: m for m in actions.values()}
    for event in events.values():
        if event.cls is not Failed or event.of is Spawn:
            continue
        if not (event.of in by_class and by_class[event.of].tracked):
            raise DefinitionError(
                f"{here}: {event.name} can never come: no tracked action of that type is declared"
            )
