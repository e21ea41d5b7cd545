"""A machine: three unions of types, and the functions that decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar

from fsm_core.edges import (
    Edge,
    Entry,
    StateTimeout,
    Tables,
    by_name,
    check_failed,
    constant,
    described,
    event_key,
    finals,
    span_of,
    without_event,
)
from fsm_core.errors import DefinitionError, TransitionError, UnknownType
from fsm_core.signature import Result, Signature, emitted, place, read, result
from fsm_core.types import BUILT_IN, Route, Timeout, Unhandled
from fsm_core.unions import Member, members

if TYPE_CHECKING:
    from datetime import timedelta

    from typing_extensions import TypeForm
    from typing_extensions import TypeVar as DefaultTypeVar

    A = DefaultTypeVar("A", default=Never)
else:
    A = TypeVar("A")

S = TypeVar("S")
E = TypeVar("E")
F = TypeVar("F", bound=Callable[..., object])

MAX_NAME = 63


class Machine(Generic[S, E, A]):
    """A durable state machine as a value: it knows its types and its edges, and runs nothing.

    name: what rows call it. states, events, actions: unions of classes (dataclasses, msgspec Structs, pydantic
    models). initial: the state that `start` uses when it is given none. final: the states that end it.
    unhandled: what an event that no edge takes does: "reject" (UnhandledEvent), "ignore" (recorded, state kept),
    "defer" (held, offered again after the next change of state). version: rows keep the one they were written with.
    queue: the Celery queue of its actions. ordered: its actions run one after another.

    Raises DefinitionError if the declaration is wrong. Source: finito's FSM trait; Erlang's gen_statem for `unhandled`.
    """

    def __init__(
        self,
        name: str,
        *,
        states: TypeForm[S],
        events: TypeForm[E],
        actions: TypeForm[A] = Never,  # `| None` here would make mypy infer Any
        initial: S | None = None,
        final: object = None,
        unhandled: Unhandled = "reject",
        version: int = 1,
        queue: str = "default",
        ordered: bool = False,
    ) -> None:
        here = f"machine {name!r}"
        if not name or len(name) > MAX_NAME or not all(c.isalnum() or c in "_-." for c in name):
            raise DefinitionError(f"{here}: a name is 1 to {MAX_NAME} letters, digits, '_', '-' or '.'")
        if unhandled not in ("reject", "ignore", "defer"):
            raise DefinitionError(f"{here}: unhandled= is 'reject', 'ignore' or 'defer', not {unhandled!r}")
        if version < 1:
            raise DefinitionError(f"{here}: version= begins at 1")
        self.name = name
        self.version = version
        self.unhandled: Unhandled = unhandled
        self.queue = queue
        self.ordered = ordered
        self.states = by_name(states, f"{here}, states")
        self.events = by_name(events, f"{here}, events")
        self.actions = by_name(actions, f"{here}, actions")
        self.final = finals(final, self.states, here)
        self.initial = initial
        self._state_types = frozenset(m.cls for m in self.states.values())
        self._event_keys = {m.key: m for m in self.events.values()}
        self._action_types = {m.cls: m for m in self.actions.values()}
        self._tables = Tables()
        self._frozen = False
        check_failed(self.events, self.actions, here)
        if initial is not None and type(initial) not in self._state_types:
            raise DefinitionError(f"{here}: initial= is a {described(initial)}, no declared state")

    if not TYPE_CHECKING:

        def __class_getitem__(cls, item: object) -> object:
            """`Machine[S, E]` is `Machine[S, E, Never]`; the TypeVar's own default needs Python 3.13."""
            pair = isinstance(item, tuple) and len(item) == 2  # noqa: PLR2004 - states and events
            return super().__class_getitem__((*item, Never) if pair else item)

    def __repr__(self) -> str:
        return f"Machine({self.name!r}, version={self.version})"

    # Declaring

    def on(self, function: F, /) -> F:
        """Declare a transition `(state, event[, ctx]) -> To[S, A]`; its signature says which edges it is.

        Returns the function itself. Raises DefinitionError: a type outside the unions, a missing annotation, a final
        state, or a pair that another function takes already (both places are named).
        """
        return self._declare(function, self._tables.edges, "transition")

    def otherwise(self, function: F, /) -> F:
        """Declare the fallback for the pairs of its signature that no `on` takes; in final states it keeps the state.

        Returns the function itself. Raises DefinitionError as `on` does.
        """
        return self._declare(function, self._tables.fallbacks, "fallback")

    def enter(self, function: F, /) -> F:
        """Declare `(state[, ctx]) -> list[A]`: runs when the state's class changes, and for a new machine.

        Returns the function itself. Raises DefinitionError: two for one state are an error.
        """
        self._open("enter")
        signature = read(function, what="enter", takes=1)
        where = f"machine {self.name!r}: enter {signature.place}"
        self._known(emitted(signature.returns, where), self._action_types, "action", where)
        states = self._known(members(signature.hints[0], where), self._state_types, "state", where)
        for state in states:
            if (other := self._tables.entries.get(state.cls)) is not None:
                raise DefinitionError(
                    f"{where}: state {state.name} is entered by {other.signature.place} already"
                )
        entry = Entry(function, signature.context, signature)  # type: ignore[arg-type]
        self._tables.entries.update({state.cls: entry for state in states})
        return function

    def timeout(self, *, after: float | timedelta | Callable[[Any], float | timedelta]) -> Callable[[F], F]:
        """Declare what happens when a state has lasted for `after`: `(state[, ctx]) -> To[S, A]`.

        after: a timedelta, seconds, or a function of the state that gives either. The clock starts when the state's class
        is entered, survives restarts, and ends by itself when the class is left. Returns a decorator that returns the
        function itself. Raises DefinitionError as `on` does; two for one state are an error.
        Source: Erlang's gen_statem, `state_timeout`.
        """
        self._open("timeout")
        span = after if callable(after) else partial(constant, span_of(after))

        def declare(function: F) -> F:
            self._declare_timeout(function, span)
            return function

        return declare

    def route(self, function: F, /) -> F:
        """Declare `(action) -> Route`: where an action goes, decided when it is committed.

        Returns the function itself. Raises DefinitionError: two for one action are an error.
        """
        self._open("route")
        signature = read(function, what="route", takes=1, extra=None)
        where = f"machine {self.name!r}: route {signature.place}"
        if signature.returns is not Route:
            raise DefinitionError(f"{where}: the result is Route")
        actions = self._known(members(signature.hints[0], where), self._action_types, "action", where)
        for action in actions:
            if (other := self._tables.routes.get(action.cls)) is not None:
                raise DefinitionError(f"{where}: action {action.name} is routed by {place(other)} already")
        self._tables.routes.update({action.cls: function for action in actions})  # type: ignore[misc]
        return function

    # Looking up

    @property
    def edges(self) -> dict[tuple[type, object], Edge]:
        """(class of the state, key of the event) -> the edge that takes it. Asking freezes the machine."""
        if not self._frozen:
            self._freeze()
        return self._tables.edges

    @property
    def entries(self) -> dict[type, Entry]:
        """Class of a state -> its `enter` function. Asking freezes the machine."""
        if not self._frozen:
            self._freeze()
        return self._tables.entries

    def emits(self, action: object) -> bool:
        """Whether the action may be emitted: one of the machine's own, or a built-in one."""
        return type(action) in self._action_types or type(action) in BUILT_IN

    def state_timeout(self, state: object) -> timedelta | None:
        """How long `state` may last, if it declares a timeout. Raises what the `after` function raises."""
        found = self._tables.timeouts.get(type(state))
        return None if found is None else span_of(found.after(state))

    def takes(self, state: object, event: object) -> bool:
        """Whether an edge takes this event in this state."""
        return (type(state), event_key(event)) in self.edges

    def has_edge(self, event: object) -> bool:
        """Whether the machine declares this event at all; an undeclared `Failed` is not told to it."""
        return event_key(event) in self._event_keys

    def is_final(self, state: object) -> bool:
        """Whether the state ends the machine."""
        return type(state) in self.final

    def tracked(self, action: object) -> bool:
        """Whether the action is durable and retried (not marked `Untracked` in the union)."""
        return self._action_types[type(action)].tracked

    def routed(self, action: object) -> Route:
        """Where the action goes: by its `route` function, else the machine's own queue. Raises TransitionError."""
        if not self._frozen:
            self._freeze()
        function = self._tables.routes.get(type(action))
        route = Route() if function is None else function(action)
        if type(route) is not Route:
            raise TransitionError(f"{function and place(function)} gave {described(route)}, no Route")
        return route

    def state_name(self, state: object) -> str:
        """The name that rows keep. Raises UnknownType if it is no state of this machine."""
        if type(state) not in self._state_types:
            raise UnknownType(self.name, "state", described(state), tuple(self.states))
        return type(state).__name__

    def event_name(self, event: object) -> str:
        """The name that rows keep. Raises UnknownType if it is no event of this machine."""
        member = self._event_keys.get(event_key(event))
        if member is None:
            raise UnknownType(self.name, "event", described(event), tuple(self.events))
        return member.name

    def action_name(self, action: object) -> str:
        """The name that rows keep. Raises UnknownType if it is no action of this machine."""
        if type(action) not in self._action_types:
            raise UnknownType(self.name, "action", described(action), tuple(self.actions))
        return type(action).__name__

    # The work behind the decorators

    def _freeze(self) -> None:
        # The flag last: another thread that sees it must see the fallbacks too.
        self._tables.edges = {**self._tables.fallbacks, **self._tables.edges}
        self._frozen = True

    def _open(self, what: str) -> None:
        if self._frozen:
            raise DefinitionError(
                f"machine {self.name!r} is in use; declare {what} functions in its own module"
            )

    def _declare(self, function: F, table: dict[tuple[type, object], Edge], what: str) -> F:
        self._open(what)
        signature = read(function, what=what, takes=2)
        where = f"machine {self.name!r}: {what} {signature.place}"
        states = self._known(members(signature.hints[0], where), self._state_types, "state", where)
        events = self._known(members(signature.hints[1], where), self._event_keys, "event", where)
        named = self._results(signature, where)
        results, fallback = frozenset(m.cls for m in named.states), table is self._tables.fallbacks
        edge = Edge(function, signature.context, results, signature, named, fallback)
        for state in states:
            if state.cls in self.final and table is self._tables.edges:
                raise DefinitionError(f"{where}: state {state.name} is final; only `otherwise` answers there")
            for event in events:
                if (other := table.get((state.cls, event.key))) is not None:
                    raise DefinitionError(
                        f"{where}: ({state.name}, {event.name}) is taken by {other.signature.place} already"
                    )
        table.update({(state.cls, event.key): edge for state in states for event in events})
        return function

    def _results(self, signature: Signature, where: str) -> Result:
        named = result(signature.returns, where)
        self._known(named.states, self._state_types, "state", where)
        own = [member for member in named.actions or () if member.cls not in BUILT_IN]
        self._known(own, self._action_types, "action", where)
        return named

    def _declare_timeout(self, function: Callable[..., Any], after: Callable[[Any], Any]) -> None:
        signature = read(function, what="timeout", takes=1)
        where = f"machine {self.name!r}: timeout {signature.place}"
        states = self._known(members(signature.hints[0], where), self._state_types, "state", where)
        named = self._results(signature, where)
        edge = Edge(
            partial(without_event, function),
            signature.context,
            frozenset(m.cls for m in named.states),
            signature,
            named,
        )
        for state in states:
            if state.cls in self.final:
                raise DefinitionError(f"{where}: state {state.name} is final, and lasts for ever")
            if (other := self._tables.timeouts.get(state.cls)) is not None:
                raise DefinitionError(
                    f"{where}: state {state.name} has a timeout already: {other.signature.place}"
                )
        member = Member(Timeout)
        self.events.setdefault(member.name, member)
        self._event_keys[member.key] = member
        for state in states:
            self._tables.edges[state.cls, member.key] = edge
            self._tables.timeouts[state.cls] = StateTimeout(after, signature)

    def _known(self, found: Sequence[Member], known: object, role: str, where: str) -> Sequence[Member]:
        for member in found:
            if (member.key if role == "event" else member.cls) not in known:  # type: ignore[operator]
                raise DefinitionError(f"{where}: {member.name} is no declared {role} of the machine")
        return found
