"""`Steps`: durable steps as a machine. Its states are the outcomes of its steps, its events their signals; no second engine."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Never, TypeAlias, TypeVar, Union, get_args, overload

from fsm_core.edges import RESERVED, Upcaster
from fsm_core.effects import DEFAULT_TIMEOUT, Effect, Effects
from fsm_core.errors import DefinitionError, InvalidPayload, TransitionError
from fsm_core.machine import Machine
from fsm_core.retry import Retry
from fsm_core.signature import Signature, place, read
from fsm_core.steps.actions import action_class, older_action, older_outcome, upcast_in
from fsm_core.steps.context import StepContext
from fsm_core.steps.outcomes import HOLDING, OUTCOMES, Await, Done, Gather, Next, Replay, Stop, TimedOut
from fsm_core.steps.running import Handler, Step
from fsm_core.steps.wiring import wire
from fsm_core.types import ChildEnded, Failed, MachineStatus, Route, Spawn
from fsm_core.unions import Member, members

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from typing_extensions import TypeForm
    from typing_extensions import TypeVar as DefaultTypeVar

    from fsm_core.registry import AnyMachine

    E = DefaultTypeVar("E", default=Never)
else:
    E = TypeVar("E")

S = TypeVar("S")
F = TypeVar("F", bound=Callable[..., object])

AnySteps: TypeAlias = "Steps[Any, Any]"


class Steps(Machine[Next[S] | Replay[S] | Await[S] | Gather[S] | Done | Stop, E, object]):
    """A flow of durable steps: on completion of a step its outcome is committed before anything goes on.

    name, version, since, queue: as of any machine. state: the class of the flow's own data, checked on read and write.
    signals: a union of classes. children: machines that a `Gather` may bear, besides itself. max_attempts: how often one step
    is started at most when workers are lost under it. resources: as of `Effects`.

    A crash before the commit runs the step again from its beginning: what it does must bear that. Start it with
    `store.start(flow, key, Next(step, state))`; signal it with `store.signal`. It is registered as any machine, and brings
    the effects that run its steps.

    Raises DefinitionError. Source: gen_durable; normative here: docs/steps.md.
    """

    def __init__(
        self,
        name: str,
        *,
        state: type[S],
        signals: TypeForm[E] = Never,
        version: int = 1,
        since: int | None = None,
        queue: str = "default",
        children: AnyMachine | Sequence[AnyMachine] = (),
        max_attempts: int = 20,
        resources: Callable[[], AbstractContextManager[object] | AbstractAsyncContextManager[object]]
        | None = None,
    ) -> None:
        self.data = state
        self.signals = members(signals, f"steps {name!r}, signals")
        kin = [children] if isinstance(children, Machine) else list(children)
        self._kin: dict[str, AnyMachine] = {each.name: each for each in kin}
        self._kin.setdefault(name, self)
        ends = [ChildEnded[end] for each in kin for end in each.final if end not in (Done, Stop)]  # type: ignore[valid-type]
        own = [form[state] if form not in (Done, Stop) else form for form in OUTCOMES]  # type: ignore[index]
        engine = [*own, TimedOut, ChildEnded[Done], ChildEnded[Stop], *ends, Failed[Spawn]]
        super().__init__(
            name,
            states=Union[tuple(own)],  # type: ignore[arg-type] # noqa: UP007 - made at run time
            events=Union[tuple([m.cls for m in self.signals] + engine)],  # type: ignore[arg-type] # noqa: UP007 - the same
            actions=Never,
            final=Done | Stop,
            version=version,
            since=since,
            queue=queue,
        )
        self.handler: Handler | None = None
        self.bundled: Effects[Any] = Effects(self, resources=resources)  # type: ignore[arg-type] # either kind
        self._steps: dict[str, type] = {}
        self._older: dict[int, Signature] = {}
        self._retry = Retry(max_attempts=max_attempts)

    if not TYPE_CHECKING:

        def __class_getitem__(cls, item: object) -> object:
            """`Steps[Order]` has no signals; as of `Machine`, whose own would add actions."""
            return super(Machine, cls).__class_getitem__(item if isinstance(item, tuple) else (item, Never))

    # Declaring

    @overload
    def step(self, function: F, /) -> F: ...
    @overload
    def step(
        self, /, *, timeout: float | timedelta = DEFAULT_TIMEOUT, queue: str | None = None, priority: int = 5,
        limit: str | None = None, limit_key: Callable[[S], str] | None = None,
    ) -> Callable[[F], F]: ...  # fmt: skip
    def step(
        self, function: Any = None, /, *, timeout: float | timedelta = DEFAULT_TIMEOUT, queue: str | None = None,
        priority: int = 5, limit: str | None = None, limit_key: Any = None,
    ) -> Any:  # fmt: skip
        """Declare a step `(state[, ctx: StepContext]) -> outcome`, plain or async; its name is the function's.

        timeout: of one run. queue, priority, limit: where it runs, as of a `Route`; limit_key: of the state. Returns the
        function itself. Raises DefinitionError: two steps of one name, other data, a result that is no outcome.
        """
        try:
            route = partial(_routed, Route(queue=queue, priority=priority, limit=limit), limit_key)
        except TransitionError as error:
            raise DefinitionError(f"steps {self.name!r}: {error}") from None
        span = timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)
        if span <= timedelta(0):
            raise DefinitionError(f"steps {self.name!r}: timeout must be positive, not {timeout}")
        declare = partial(self._declare, span, route)
        return declare if function is None else declare(function)

    def on_error(self, function: F, /) -> F:
        """Declare `(reason: Exception, state[, ctx]) -> outcome`: what becomes of a step that raised. Without it: `Stop`.

        Returns the function itself. Not asked when a worker is lost: then the step is run again. Raises DefinitionError:
        a second one, an async one, other data.
        """
        signature, here = self._read(function, "on_error", takes=2)
        if self.handler is not None:
            raise DefinitionError(f"{here}: errors are handled by {place(self.handler.function)} already")
        if inspect.iscoroutinefunction(function):
            raise DefinitionError(f"{here}: it is a plain function")
        if signature.hints[0] is not Exception:
            raise DefinitionError(f"{here}: it takes any Exception, not {signature.hints[0]!r}")
        self.handler = Handler(function, signature.context)
        return function

    def upcast(self, version: int, name: str) -> Callable[[F], F]:
        """As of any machine. One for the flow's data, `(old: OldOrder) -> Order`, holds wherever these data stand.

        name: of the outcome or the signal that it is for; of data, that of their class then. One for an outcome,
        `(old: Next[OldOrder]) -> Next[Order]`, comes before that of the data. Raises DefinitionError.
        """

        def declare(function: F) -> F:
            signature, data = read(function, what="upcast", takes=1, extra=None), self.data
            if signature.returns is not data:
                self._declared.upcaster(version, name, function)
                return function
            hints: dict[str, object] = {"value": Next[signature.hints[0]], "return": Next[data]}  # type: ignore[name-defined, valid-type] # made at run time
            # Filed under the data's own name, for the checks; it is looked up in `_older`.
            self._declared.upcaster(version, data.__name__, upcast_in(function, hints))
            self._older[version] = signature
            return function

        return declare

    # What the moves ask

    def action_of(self, step: str) -> type:
        """The class of the action that runs a step. Raises TransitionError: there is no such step."""
        found = self._steps.get(step)
        if found is None:
            raise TransitionError(
                f"steps {self.name!r} has no step {step!r} (declared: {', '.join(self._steps) or 'none'})"
            )
        return found

    def kin(self, name: str) -> AnyMachine:
        """A machine that may be born here. Raises TransitionError: it is not among `children=`."""
        if name not in self._kin:
            raise TransitionError(f"steps {self.name!r} bears no {name!r}; name it in children=")
        return self._kin[name]

    # What is different from any machine

    def takes(self, state: object, event: object) -> bool:
        """Whether an edge takes this event: of signals, an `Await` takes only what it names."""
        if not super().takes(state, event):
            return False
        is_signal = any(type(event) is member.cls for member in self.signals)
        return not is_signal or (isinstance(state, Await) and type(event).__name__ in state.signals)

    def state_name(self, state: object) -> str:
        """As of any machine; also Raises InvalidPayload: the state names what is not declared, or holds other data."""
        name = super().state_name(state)
        if isinstance(state, HOLDING) and (wrong := self._wrong(state)) is not None:
            raise InvalidPayload(f"steps {self.name!r}: {name} {wrong}")
        return name

    def upcaster(self, version: int, role: str, name: str) -> Upcaster | None:
        """As of any machine; an outcome is a state and an event, and a step's action holds the flow's data."""
        found = super().upcaster(version, role, name)
        if found is None and role == "event":
            found = super().upcaster(version, "state", name)
        older = self._older.get(version)
        if found is None and older is not None:
            found = (
                older_action(self._steps[name], older) if role == "action" and name in self._steps else None
            )
            found = older_outcome(name, older) if role != "action" else found
        return found

    def ended_as(self, state: object) -> MachineStatus:
        """`Stop` is a failure."""
        return MachineStatus.FAILED if isinstance(state, Stop) else MachineStatus.DONE

    # The work behind

    def _read(self, function: Callable[..., Any], what: str, *, takes: int) -> tuple[Signature, str]:
        """The signature of a step or an error handler, whose last own parameter is the data, and how messages call it."""
        if self.frozen:
            raise DefinitionError(f"steps {self.name!r} is in use; declare its steps in its own module")
        signature = read(function, what=what, takes=takes, extra=StepContext, coroutines=True)
        here = f"steps {self.name!r}: {what} {signature.place}"
        if signature.hints[-1] is not self.data:
            raise DefinitionError(f"{here}: its state is {self.data.__name__}, not {signature.hints[-1]!r}")
        for member in members(signature.returns, here):
            if member.cls not in OUTCOMES:
                raise DefinitionError(f"{here}: {member.name} is no outcome of a step")
            if member.form is not None and get_args(member.form) != (self.data,):
                raise DefinitionError(f"{here}: {member.form!r} does not hold {self.data.__name__}")
        return signature, here

    def _declare(self, timeout: timedelta, route: Callable[[Any], Route], function: F) -> F:
        signature, here = self._read(function, "step", takes=1)
        name = function.__name__
        if name in self._steps:
            raise DefinitionError(f"{here}: there is a step of that name already")
        if name in RESERVED["action"]:
            raise DefinitionError(f"{here}: {name} is the name of a built-in; call yours something else")
        cls = action_class(name, self.data)  # type: ignore[arg-type] # mypy takes type[S] for unhashable
        self._steps[name] = cls
        self.actions[name] = self._declared.action_types[cls] = Member(cls)
        self.emittable = frozenset({*self.emittable, cls})
        self._tables.routes[cls] = route
        failure = Member(Failed, of=cls)
        self.events[failure.name] = self._declared.event_keys[failure.key] = failure
        step, is_async = Step(self, function, signature.context), inspect.iscoroutinefunction(function)
        run = step.run_async if is_async else step.run
        brings = tuple(m for m in self.events.values() if m.cls in OUTCOMES)
        # A step that follows at once is run by the same worker, as a flow written as one function would go on.
        self.bundled.register(Effect(run, True, is_async, self._retry, timeout, name, brings, inline=True))  # noqa: FBT003 - a record
        return function

    def _freeze(self) -> None:
        edges, entries = wire(self)
        self._tables.edges.update(edges)
        self._tables.entries.update(entries)
        super()._freeze()

    def _wrong(self, state: Next[Any] | Replay[Any] | Await[Any] | Gather[Any]) -> str | None:
        if type(state.state) is not self.data:
            return f"holds {type(state.state).__name__}, not {self.data.__name__}"
        step = state.then if isinstance(state, Await | Gather) else state.step
        if not step or (isinstance(state, Gather) and state.join is None):
            return "is for a step to give: start with Next"
        if step not in self._steps:
            return f"names no step: {step!r} (declared: {', '.join(self._steps) or 'none'})"
        if isinstance(state, Await):
            unknown = set(state.signals) - {member.name for member in self.signals}
            return f"names no signal: {', '.join(sorted(unknown))}" if unknown else None
        return None


def _routed(route: Route, limit_key: Callable[[Any], str] | None, action: Any) -> Route:
    key = None if limit_key is None else limit_key(action.state)
    return replace(route, limit_key=key, delay=action.delay or timedelta(0))
