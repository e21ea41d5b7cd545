"""`Steps`: durable steps as a machine. Its states are the outcomes of its steps, its events their signals; no second engine."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Never, TypeAlias, TypeVar, Union, overload

from fsm_core.edges import Edge, Entry
from fsm_core.effects import DEFAULT_TIMEOUT, Effect, Effects
from fsm_core.errors import DefinitionError, TransitionError
from fsm_core.machine import Machine
from fsm_core.retry import Retry
from fsm_core.signature import Result, Signature, place, read
from fsm_core.steps import moves
from fsm_core.steps.context import StepContext
from fsm_core.steps.outcomes import (
    OUTCOMES,
    Await,
    Child,
    Done,
    Gather,
    Next,
    Received,
    Replay,
    Stop,
    TimedOut,
)
from fsm_core.steps.running import async_runner, runner
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

_ALONE: dict[str, str] = {
    "waits-for-ever": "a wait without a timeout is the step's own decision",
    "unhandled-failure": "a step's failure stops the machine",
}  # fmt: skip


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
        self._signals = members(signals, f"steps {name!r}, signals")
        kin = [children] if isinstance(children, Machine) else list(children)
        self._kin: dict[str, AnyMachine] = {each.name: each for each in kin}
        self._kin.setdefault(name, self)
        ends = [ChildEnded[end] for each in kin for end in each.final if end not in (Done, Stop)]  # type: ignore[valid-type]
        own = [form[state] if form not in (Done, Stop) else form for form in OUTCOMES]  # type: ignore[index]
        engine = [*own, TimedOut, ChildEnded[Done], ChildEnded[Stop], *ends, Failed[Spawn]]
        super().__init__(
            name,
            states=Union[tuple(own)],  # type: ignore[arg-type] # noqa: UP007 - made at run time
            events=Union[tuple([m.cls for m in self._signals] + engine)],  # type: ignore[arg-type] # noqa: UP007 - the same
            actions=Never,
            final=Done | Stop,
            version=version,
            since=since,
            queue=queue,
            accept=_ALONE,
        )
        self.handler: Callable[[Exception, object, StepContext[Any]], object] | None = None
        self.bundled: Effects[Any] = Effects(self, resources=resources)  # type: ignore[arg-type] # either kind
        self._steps: dict[str, type] = {}
        self._retry = Retry(max_attempts=max_attempts)
        self._wire()

    # Declaring

    @overload
    def step(self, function: F, /) -> F: ...
    @overload
    def step(
        self, /, *, timeout: float | timedelta = DEFAULT_TIMEOUT, queue: str | None = None, priority: int = 5,
        limit: str | None = None, limit_key: Callable[[S], str] | None = None,
    ) -> Callable[[F], F]: ...  # fmt: skip
    def step(
        self, function: Any = None, /, *, timeout: float | timedelta = DEFAULT_TIMEOUT, **where: Any
    ) -> Any:
        """Declare a step `(state[, ctx: StepContext]) -> outcome`, plain or async; its name is the function's.

        timeout: of one run. queue, priority, limit: where it runs, as of a `Route`; limit_key: of the state. Returns the
        function itself. Raises DefinitionError: two steps of one name, other data, a result that is no outcome.
        """
        if function is None:
            return partial(self._declare, timeout, where)
        return self._declare(timeout, where, function)

    def on_error(self, function: F, /) -> F:
        """Declare `(reason: Exception, state, ctx) -> outcome`: what becomes of a step that raised. One; without it: `Stop`.

        Returns the function itself. Not asked when a worker is lost: then the step is run again. Raises DefinitionError.
        """
        if self.handler is not None:
            raise DefinitionError(f"steps {self.name!r}: errors are handled by {place(self.handler)} already")
        self.handler = function
        return function

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

    def check(self, outcome: object) -> None:
        """Raises TransitionError, if an outcome names a step, a signal or a child that is not declared, or holds other data."""
        if isinstance(outcome, Next | Replay | Await | Gather) and not isinstance(outcome.state, self.data):
            raise TransitionError(
                f"{type(outcome).__name__} holds {type(outcome.state).__name__}, not {self.data.__name__}"
            )
        if isinstance(outcome, Next):
            self.action_of(outcome.step)
        elif isinstance(outcome, Await):
            known = {member.name for member in self._signals}
            if unknown := set(outcome.signals) - known:
                raise TransitionError(f"steps {self.name!r} has no signal {', '.join(sorted(unknown))}")
            if outcome.then is not None:
                self.action_of(outcome.then)
        elif isinstance(outcome, Gather):
            self.action_of(outcome.then)
            for plan in outcome.children:
                self.kin(plan.machine)

    # What is different from any machine

    def takes(self, state: object, event: object) -> bool:
        """Whether an edge takes this event: of signals, an `Await` takes only what it names."""
        if not super().takes(state, event):
            return False
        is_signal = any(type(event) is member.cls for member in self._signals)
        return not is_signal or (isinstance(state, Await) and type(event).__name__ in state.signals)

    def state_name(self, state: object) -> str:
        """As of any machine; also Raises TransitionError for a first state that names no step, or holds other data."""
        name = super().state_name(state)
        self.check(state)
        return name

    def ended_as(self, state: object) -> MachineStatus:
        """`Stop` is a failure."""
        return MachineStatus.FAILED if isinstance(state, Stop) else MachineStatus.DONE

    # The work behind

    def _declare(self, timeout: float | timedelta, where: dict[str, Any], function: Any) -> Any:
        if self.frozen:
            raise DefinitionError(f"steps {self.name!r} is in use; declare its steps in its own module")
        signature = read(function, what="step", takes=1, extra=StepContext, coroutines=True)
        name, here = function.__name__, f"steps {self.name!r}: step {signature.place}"
        if name in self._steps:
            raise DefinitionError(f"{here}: there is a step of that name already")
        if signature.hints[0] is not self.data:
            raise DefinitionError(f"{here}: its state is {self.data.__name__}, not {signature.hints[0]!r}")
        self._check_result(signature.returns, here)
        fields: list[tuple[str, Any]] = [
            ("state", self.data), ("awaited", tuple[Received, ...]), ("attempt", int), ("timed_out", bool),
            ("children", tuple[Child, ...]), ("delay", timedelta | None),
        ]  # fmt: skip
        cls = make_dataclass(name, fields, frozen=True, namespace={"__doc__": f"Run the step {name}."})
        self._steps[name] = cls
        self._add_action(Member(cls), partial(_route, where))
        self._add_failure(cls)
        is_async = inspect.iscoroutinefunction(function)
        run = (async_runner if is_async else runner)(self, function, context=signature.context)
        span = timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)
        brings = tuple(m for m in self.events.values() if m.cls in OUTCOMES)
        self.bundled.register(Effect(run, True, is_async, self._retry, span, name, brings))  # noqa: FBT003 - a record
        return function

    def _check_result(self, returns: object, here: str) -> None:
        for member in members(returns, here):
            if member.cls not in OUTCOMES:
                raise DefinitionError(f"{here}: {member.name} is no outcome of a step")

    def _add_action(self, member: Member, route: Callable[[Any], Route]) -> None:
        self.actions[member.name] = self._declared.action_types[member.cls] = member
        self.emittable = frozenset({*self.emittable, member.cls})
        self._tables.routes[member.cls] = route

    def _add_failure(self, action: type) -> None:
        failure = Member(Failed, of=action)
        self.events[failure.name] = self._declared.event_keys[failure.key] = failure
        self._edges(moves.lost, (Next, Replay), [failure], (Stop,))

    def _wire(self) -> None:
        """Every edge there is: what a machine would declare with `on` and `enter`."""
        by_class = {member.cls: member for member in self.events.values() if member.of is None}
        outcomes = [by_class[cls] for cls in OUTCOMES]
        timed_out = [by_class[TimedOut]]
        children = [member for member in self.events.values() if member.cls is ChildEnded]
        unborn = [member for member in self.events.values() if member.cls is Failed and member.of is Spawn]
        self._edges(moves.outcome, (Next, Replay), outcomes, OUTCOMES)
        self._edges(moves.wake, (Await,), self._signals, (Next,))
        self._edges(moves.overdue, (Await,), timed_out, (Next,))
        self._edges(moves.ended, (Gather,), children, (Gather, Next))
        self._edges(moves.unborn, (Gather,), unborn, (Gather, Next))
        self._edges(moves.late, (Gather,), timed_out, (Next,))
        for states, function in ((_RUNNING, _entered), ((Await,), moves.wait), ((Gather,), moves.bear)):
            entry = Entry(partial(function, self), True, _signature(function))  # noqa: FBT003 - a record
            self._tables.entries.update(dict.fromkeys(states, entry))

    def _edges(
        self,
        function: Callable[..., Any],
        states: Sequence[type],
        events: Sequence[Member],
        results: Sequence[type],
    ) -> None:
        named = Result(tuple(m for m in self.states.values() if m.cls in results), None)
        bound = partial(function, self)
        edge = Edge(bound, True, frozenset(results), _signature(function), named)  # noqa: FBT003 - a record
        self._tables.edges.update({(state, event.key): edge for state in states for event in events})


_RUNNING = (Next, Replay)


def _entered(steps: AnySteps, state: Any, _ctx: object) -> list[Any]:
    return moves.run(steps, state)


def _signature(function: Callable[..., Any]) -> Signature:
    return Signature(function, (), True, list[object])  # noqa: FBT003 - a record


def _route(where: dict[str, Any], action: Any) -> Route:
    limit_key = where.get("limit_key")
    return Route(
        queue=where.get("queue"), priority=where.get("priority", 5), limit=where.get("limit"),
        limit_key=None if limit_key is None else limit_key(action.state), delay=action.delay or timedelta(0),
    )  # fmt: skip
