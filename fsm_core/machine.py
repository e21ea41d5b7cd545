"""A machine: three unions of types, and the functions that decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar

from fsm_core.declared import Declared
from fsm_core.edges import (
    Edge,
    Entry,
    StateTimeout,
    Upcaster,
    by_name,
    check_failed,
    constant,
    described,
    event_key,
    finals,
    span_of,
)
from fsm_core.errors import DefinitionError, TransitionError, UnknownType
from fsm_core.signature import place
from fsm_core.types import BUILT_IN, Change, MachineStatus, Route, Unhandled

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
    since: the oldest version whose rows it reads (None: that of its oldest upcaster, else its own). queue: the Celery queue
    of its actions. ordered: its actions run one after another. accept: findings of `fsm check` that are as they should be:
    their code, or "code:Name", and the reason.

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
        since: int | None = None,
        queue: str = "default",
        ordered: bool = False,
        accept: Mapping[str, str] | None = None,
    ) -> None:
        here = f"machine {name!r}"
        if not name or len(name) > MAX_NAME or not all(c.isalnum() or c in "_-." for c in name):
            raise DefinitionError(f"{here}: a name is 1 to {MAX_NAME} letters, digits, '_', '-' or '.'")
        if unhandled not in ("reject", "ignore", "defer"):
            raise DefinitionError(f"{here}: unhandled= is 'reject', 'ignore' or 'defer', not {unhandled!r}")
        if not 1 <= (since or version) <= version:
            raise DefinitionError(f"{here}: version= begins at 1, and since= is none after it")
        self.name = name
        self.version = version
        self.since = since or version
        self.unhandled: Unhandled = unhandled
        self.queue = queue
        self.ordered = ordered
        self.states = by_name(states, "state", here)
        self.events = by_name(events, "event", here)
        self.actions = by_name(actions, "action", here)
        self.final = finals(final, self.states, here)
        self.initial = initial
        self.accepted: Mapping[str, str] = dict(accept or {})
        self._declared = Declared(self)
        self._tables = self._declared.tables
        self._frozen = False
        self._forms = {
            member.cls: member.form
            for member in (*self.states.values(), *self.events.values(), *self.actions.values())
            if member.form is not None
        }
        self.emittable = frozenset({*self._declared.action_types, *BUILT_IN})
        check_failed(self.events, self.actions, here)
        if initial is not None and type(initial) not in self._declared.state_types:
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
        self._declared.transition(function, self._tables.edges)
        return function

    def otherwise(self, function: F, /) -> F:
        """Declare the fallback for the pairs of its signature that no `on` takes; in final states it keeps the state.

        Returns the function itself. Raises DefinitionError as `on` does.
        """
        self._declared.transition(function, self._tables.fallbacks)
        return function

    def enter(self, function: F, /) -> F:
        """Declare `(state[, ctx]) -> list[A]`: runs when the state's class changes, and for a new machine.

        Returns the function itself. Raises DefinitionError: two for one state are an error.
        """
        self._declared.emitter(function, "enter", self._tables.entries)
        return function

    def timeout(self, *, after: float | timedelta | Callable[[Any], float | timedelta]) -> Callable[[F], F]:
        """Declare what happens when a state has lasted for `after`: `(state[, ctx]) -> To[S, A]`.

        after: a timedelta, seconds, or a function of the state that gives either. The clock starts when the state's class
        is entered, survives restarts, and ends by itself when the class is left. Returns a decorator that returns the
        function itself. Raises DefinitionError as `on` does; two for one state are an error.
        Source: Erlang's gen_statem, `state_timeout`.
        """
        span = after if callable(after) else partial(constant, span_of(after))

        def declare(function: F) -> F:
            self._declared.timeout(function, span)
            return function

        return declare

    def route(self, function: F, /) -> F:
        """Declare `(action) -> Route`: where an action goes, decided when it is committed.

        Returns the function itself. Raises DefinitionError: two for one action are an error.
        """
        self._declared.route(function)
        return function

    def restore(self, function: F, /) -> F:
        """Declare `(state) -> list[A]`: the open tracked actions of a machine in that state, as they were emitted.

        An audit (`fsm fsck`: equal to the open rows), and what rebuilds a lost outbox. Returns the function itself.
        Raises DefinitionError: two for one state, an untracked action. Source: FASM's `restore`.
        """
        self._declared.emitter(function, "restore", self._tables.restores)
        return function

    def invariant(self, function: F, /) -> F:
        """Declare `(state) -> None`, which asserts, or `-> bool`: what holds of every such state.

        Run by MemoryStore and `fsm fsck`, never in production. Returns the function itself. Raises DefinitionError.
        Source: FASM's `check_invariants`.
        """
        self._declared.invariant(function)
        return function

    def project(self, function: F, /) -> F:
        """Declare `(change: Change[S, E]) -> list of SQLAlchemy statements`: the application's own tables, kept in step.

        The store runs them in the transaction of the change itself; a constraint that they break is a `Rejected`. Returns
        the function itself. Raises DefinitionError.
        """
        self._declared.projection(function)
        return function

    def upcast(self, version: int, name: str) -> Callable[[F], F]:
        """Declare a function from a shape that `version` wrote, under `name`, to the present one.

        Whether of a state, an event or an action, its result says. What has none is read as it is. Returns a decorator that
        returns the function itself. Raises DefinitionError: no earlier version, two for one shape.
        """

        def declare(function: F) -> F:
            self._declared.upcaster(version, name, function)
            return function

        return declare

    # Looking up

    @property
    def frozen(self) -> bool:
        """Whether it is in use: no more can be declared."""
        return self._frozen

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

    @property
    def timeouts(self) -> Mapping[type, StateTimeout]:
        """Class of a state -> how long it may last."""
        return self._tables.timeouts

    def emits(self, action: object) -> bool:
        """Whether the action may be emitted: one of the machine's own, or a built-in one."""
        return type(action) in self.emittable

    def state_timeout(self, state: object) -> timedelta | None:
        """How long `state` may last, if it declares a timeout. Raises what the `after` function raises."""
        found = self._tables.timeouts.get(type(state))
        return None if found is None else span_of(found.after(state))

    def takes(self, state: object, event: object) -> bool:
        """Whether an edge takes this event in this state."""
        return (type(state), event_key(event)) in self.edges

    def has_edge(self, event: object) -> bool:
        """Whether the machine declares this event at all; an undeclared `Failed` is not told to it."""
        return event_key(event) in self._declared.event_keys

    def is_final(self, state: object) -> bool:
        """Whether the state ends the machine."""
        return type(state) in self.final

    def ended_as(self, state: object) -> MachineStatus:  # noqa: ARG002 - durable steps tell states apart
        """How a machine has ended that is in this final state."""
        return MachineStatus.DONE

    def form_of(self, value: object) -> object:
        """How the class of a state or event was written in its union, where that is generic; else None."""
        return self._forms.get(type(value))

    def tracked(self, action: object) -> bool:
        """Whether the action is durable and retried (not marked `Untracked` in the union)."""
        return self._declared.action_types[type(action)].tracked

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
        if type(state) not in self._declared.state_types:
            raise UnknownType(self.name, "state", described(state), tuple(self.states))
        return type(state).__name__

    def event_name(self, event: object) -> str:
        """The name that rows keep. Raises UnknownType if it is no event of this machine."""
        member = self._declared.event_keys.get(event_key(event))
        if member is None:
            raise UnknownType(self.name, "event", described(event), tuple(self.events))
        return member.name

    def action_name(self, action: object) -> str:
        """The name that rows keep. Raises UnknownType if it is no action of this machine."""
        if type(action) not in self._declared.action_types:
            raise UnknownType(self.name, "action", described(action), tuple(self.actions))
        return type(action).__name__

    def restored(self, state: object) -> list[A] | None:
        """The open tracked actions that `restore` names; None, if none is declared for this state."""
        found = self._tables.restores.get(type(state))
        return None if found is None else list(found.function(state))  # type: ignore[arg-type]

    def violated(self, state: object) -> str | None:
        """What the first failing invariant says of `state`; None, if all hold."""
        for function in self._tables.invariants.get(type(state), ()):
            try:
                holds = function(state)
            except Exception as error:  # noqa: BLE001 - an assertion, or a bug in one: either way it does not hold
                return f"{place(function)}: {type(error).__name__}: {error}".rstrip(": ")
            if holds is False:
                return f"{place(function)} is False"
        return None

    @property
    def projects(self) -> bool:
        """Whether a projection is declared."""
        return bool(self._tables.projections)

    def projected(self, change: Change[S, E]) -> list[object]:
        """The statements of all projections, in the order of declaration."""
        return [statement for function in self._tables.projections for statement in function(change)]

    def upcaster(self, version: int, role: str, name: str) -> Upcaster | None:
        """What reads the `role` ("state", "event", "action") called `name` of rows of `version`, if it has changed since."""
        return self._tables.upcasters.get((version, role, name))

    def reads(self, version: int) -> bool:
        """Whether rows of `version` are read by this one."""
        return self.since <= version <= self.version

    def _freeze(self) -> None:
        # The flag last: another thread that sees it must see the fallbacks too.
        self._tables.edges = {**self._tables.fallbacks, **self._tables.edges}
        self._frozen = True
