"""What a step may come to. The outcomes are the states of a `Steps` machine, and the events by which it gets there.

Source: gen_durable, `{:next, ...}`, `{:replay, ...}`, `{:await, ...}`, `{:done, ...}`, `{:stop, ...}`, and its later children.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import msgspec

from fsm_core.codec import encode
from fsm_core.errors import TransitionError
from fsm_core.join import Join  # noqa: TC001 - msgspec reads the annotation
from fsm_core.types import Internal, Spawn, key_text

S = TypeVar("S")

AnyStep: TypeAlias = Callable[..., object]


@dataclass(frozen=True, slots=True)
class Received:
    """A signal that a step is shown: its name, its payload, and the version of the flow that took it."""

    name: str
    payload: dict[str, Any]
    version: int = 1


@dataclass(frozen=True, slots=True)
class Child:
    """How a child ended. `state`: the name of its final state, and `result` what that holds; "" and the error, if it has none.

    failed: whether it stopped, was cancelled, or could not be born.
    """

    machine: str
    key: str
    state: str
    result: dict[str, Any]
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A child to be born. key: None until its parent's event has a number."""

    machine: str
    key: str | None
    state: str
    payload: dict[str, Any]


@dataclass(frozen=True)
class Next(Internal, Generic[S]):
    """Go on with `step`, at once. `attempt` begins anew; what the step had been shown is consumed."""

    step: str
    state: S
    attempt: int = 0
    awaited: tuple[Received, ...] = ()
    timed_out: bool = False
    children: tuple[Child, ...] = ()

    if TYPE_CHECKING:

        def __init__(
            self, step: AnyStep | str, state: S, attempt: int = 0, awaited: tuple[Received, ...] = (), *,
            timed_out: bool = False, children: tuple[Child, ...] = (),
        ) -> None: ...  # fmt: skip

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", step_name(self.step))


@dataclass(frozen=True)
class Replay(Internal, Generic[S]):
    """The same step again after `delay` (a timedelta, or seconds), with `state`. `attempt` goes up; nothing is consumed."""

    state: S
    delay: timedelta = timedelta(0)
    step: str = ""
    attempt: int = 0
    awaited: tuple[Received, ...] = ()
    timed_out: bool = False
    children: tuple[Child, ...] = ()

    if TYPE_CHECKING:

        def __init__(
            self, state: S, delay: timedelta | float = 0, step: str = "", attempt: int = 0,
            awaited: tuple[Received, ...] = (), *, timed_out: bool = False, children: tuple[Child, ...] = (),
        ) -> None: ...  # fmt: skip

    def __post_init__(self) -> None:
        object.__setattr__(self, "delay", _span(self.delay))


@dataclass(frozen=True)
class Await(Internal, Generic[S]):
    """Wait for one of `signals` (classes), then run the same step again, or `then`. Consumes nothing.

    timeout: a timedelta, or seconds; when it is over the step runs as well, and is told so (`ctx.timed_out`).
    """

    signals: tuple[str, ...]
    state: S
    timeout: timedelta | None = None
    then: str | None = None
    awaited: tuple[Received, ...] = ()

    if TYPE_CHECKING:

        def __init__(
            self, signals: type | Sequence[type] | tuple[str, ...], state: S, *, timeout: timedelta | float | None = None,
            then: AnyStep | str | None = None, awaited: tuple[Received, ...] = (),
        ) -> None: ...  # fmt: skip

    def __post_init__(self) -> None:
        given: Any = self.signals
        named = [given] if isinstance(given, type | str) else list(given)
        names = tuple(one if isinstance(one, str) else one.__name__ for one in named)
        if not names:
            raise TransitionError("Await names at least one signal")
        object.__setattr__(self, "signals", names)
        object.__setattr__(self, "timeout", None if self.timeout is None else _span(self.timeout))
        object.__setattr__(self, "then", None if self.then is None else step_name(self.then))


@dataclass(frozen=True)
class Gather(Internal, Generic[S]):
    """Bear children (`Spawn` actions) and go on with `then` when all of them have ended, well or not.

    need: go on as soon as so many have ended well, or no longer can; the rest are cancelled. timeout: go on after it in any
    case (`ctx.timed_out`), the rest are cancelled. The step finds them in `ctx.children`, in the order of their ends.
    """

    children: tuple[Plan, ...]
    state: S
    then: str = ""
    need: int | None = None
    timeout: timedelta | None = None
    join: Join | None = None
    heard: tuple[Child, ...] = ()

    if TYPE_CHECKING:

        def __init__(
            self, children: Sequence[Spawn] | tuple[Plan, ...], state: S, then: AnyStep | str, *, need: int | None = None,
            timeout: timedelta | float | None = None, join: Join | None = None, heard: tuple[Child, ...] = (),
        ) -> None: ...  # fmt: skip

    def __post_init__(self) -> None:
        given: Any = self.children
        object.__setattr__(
            self, "children", tuple(_plan(each) if isinstance(each, Spawn) else each for each in given)
        )
        if self.need is not None and self.need < 1:
            raise TransitionError(f"Gather needs 1 child or more, not {self.need}")
        object.__setattr__(self, "then", step_name(self.then))
        object.__setattr__(self, "timeout", None if self.timeout is None else _span(self.timeout))


@dataclass(frozen=True)
class Done(Internal):
    """The end. `result`: a JSON object."""

    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stop(Internal):
    """The end, as a failure."""

    reason: str


@dataclass(frozen=True)
class TimedOut(Internal):
    """The engine's: an `Await` or a `Gather` has waited for long enough."""


HOLDING = (Next, Replay, Await, Gather)
"""The outcomes that hold the flow's data."""

OUTCOMES = (*HOLDING, Done, Stop)


def step_name(step: object) -> str:
    """The name of a step: the function's, or as given. Raises TransitionError: it is neither."""
    name = step if isinstance(step, str) else getattr(step, "__name__", None)
    if not isinstance(name, str) or not name:
        raise TransitionError(f"{step!r:.100} is no step")
    return name


def _span(given: timedelta | float) -> timedelta:
    span = given if isinstance(given, timedelta) else timedelta(seconds=given)
    if span < timedelta(0):
        raise TransitionError(f"a time to wait is not negative: {given}")
    return span


def _plan(spawn: Spawn) -> Plan:
    machine: Any = spawn.machine
    if isinstance(machine, str):
        raise TransitionError(f"Gather takes the machine itself, not its name {machine!r}")
    state = machine.initial if spawn.state is None else spawn.state
    if state is None:
        raise TransitionError(f"machine {machine.name!r} has no initial=; Spawn it with a state")
    name, key = machine.state_name(state), None if spawn.key is None else key_text(spawn.key)
    return Plan(
        machine.name,
        key,
        name,
        msgspec.json.decode(encode(state, f"state {name}", form=machine.form_of(state))),
    )
