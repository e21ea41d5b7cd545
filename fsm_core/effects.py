"""Effects: what runs an action. A value apart from the machine, so that a web app imports none and a test passes others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union, cast, get_args, get_origin, overload

from fsm_core.errors import DefinitionError
from fsm_core.retry import Retry
from fsm_core.signature import place, read
from fsm_core.unions import Member, members

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from fsm_core.machine import Machine
    from fsm_core.types import ActionId

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Act = TypeVar("Act")
Out = TypeVar("Out")

DEFAULT_TIMEOUT = timedelta(minutes=5)
DEFAULT_RETRY = Retry()


@dataclass(frozen=True)
class Attempt(Generic[R_co]):
    """One start of an effect, or of its probe.

    id: the action's. number: from 1, crashes included. deadline: when the attempt ends by its timeout (aware).
    resources: what the `Effects` were given as `resources=`, entered once per worker process. machine, key: whose action it is.
    """

    id: ActionId
    number: int
    deadline: datetime
    resources: R_co
    machine: str = ""
    key: str = ""
    _beat: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this action, and for no other: hand it to whoever is called."""
        return str(self.id)

    def heartbeat(self) -> None:
        """Say that the effect makes progress: moves the limit that `heartbeat_timeout=` sets. Never blocks, from any thread."""
        self._beat()


class NotDone:
    """A probe's answer: it did not happen, run the effect."""


@dataclass(frozen=True)
class _Limits:
    """What `act` says of an attempt's end."""

    timeout: timedelta
    silence: timedelta | None = None
    isolated: bool = False
    inline: bool = False


@dataclass(frozen=True)
class Effect:
    """One registered effect, as the worker reads it."""

    function: Callable[..., Any]
    takes_attempt: bool
    is_async: bool
    retry: Retry
    timeout: timedelta
    action: str
    brings: tuple[Member, ...] = ()
    """The events that it may return, by its signature."""
    heartbeat_timeout: timedelta | None = None
    isolated: bool = False
    inline: bool = False


class Effects(Generic[R]):
    """The effects of one machine.

    machine: whose actions they run. resources: a factory of a context manager (sync or async), entered once per worker
    process; effects get what it yields as `attempt.resources`. Source: finito's `act` and its app `State`.
    """

    @overload
    def __init__(self: Effects[None], machine: Machine[Any, Any, Any]) -> None: ...
    @overload
    def __init__(
        self,
        machine: Machine[Any, Any, Any],
        *,
        resources: Callable[[], AbstractContextManager[R]] | Callable[[], AbstractAsyncContextManager[R]],
    ) -> None: ...
    def __init__(
        self, machine: Machine[Any, Any, Any], *, resources: Callable[[], Any] | None = None
    ) -> None:
        self.machine = machine
        self.resources = resources
        self._effects: dict[str, Effect] = {}
        self._probes: dict[str, Effect] = {}

    def __repr__(self) -> str:
        return f"Effects({self.machine!r})"

    @overload
    def act(self, function: Callable[[Act], Out], /) -> Callable[[Act], Out]: ...
    @overload
    def act(self, function: Callable[[Act, Attempt[R]], Out], /) -> Callable[[Act, Attempt[R]], Out]: ...
    @overload
    def act(
        self,
        /,
        *,
        retry: Retry = ...,
        timeout: float | timedelta = ...,
        heartbeat_timeout: float | timedelta | None = ...,
        isolated: bool = ...,
        inline: bool = ...,
    ) -> _Act[R]: ...
    def act(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        retry: Retry = DEFAULT_RETRY,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        heartbeat_timeout: float | timedelta | None = None,
        isolated: bool = False,
        inline: bool = False,
    ) -> Any:
        """Declare the effect of an action: `(action[, attempt]) -> None | event | list[event]`, plain or async.

        retry: the policy. timeout: of one attempt, in seconds or as a timedelta. heartbeat_timeout: how long it may run without
        `attempt.heartbeat()`; None: until its timeout. isolated: it (and its probe) runs in a process of its own, which is killed
        where a thread could only be given up. inline: where an effect's result causes it, the same worker goes on with it at once,
        without a hop over relay and broker (ten in a row at most; not where it has to be admitted, is due later, or is for another
        queue). Returns the function itself.
        Raises DefinitionError: an action or event that the machine does not declare, or two effects for one action.
        """

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            silence = None if heartbeat_timeout is None else _positive(heartbeat_timeout, "heartbeat_timeout")
            limits = _Limits(_positive(timeout), silence, isolated, inline)
            self._declare(function, self._effects, "effect", retry, limits)
            return function

        return declare if function is None else declare(function)

    @overload
    def probe(self, function: Callable[[Act], Out], /) -> Callable[[Act], Out]: ...
    @overload
    def probe(self, function: Callable[[Act, Attempt[R]], Out], /) -> Callable[[Act, Attempt[R]], Out]: ...
    def probe(self, function: Callable[..., Any], /) -> Any:
        """Declare what is asked instead of the effect when an attempt's outcome is unknown (worker lost, timeout, `InDoubt`).

        `(action[, attempt]) -> event | list[event] | NotDone`; raising means "cannot tell yet", asked again by the
        effect's policy, within its timeout. Returns the function itself. Raises DefinitionError as `act` does.
        """
        self._declare(function, self._probes, "probe", DEFAULT_RETRY, _Limits(DEFAULT_TIMEOUT))
        return function

    @property
    def inline(self) -> bool:
        """Whether any of them is run by the worker that caused it."""
        return any(effect.inline for effect in self._effects.values())

    def register(self, effect: Effect) -> None:
        """Take an effect that the engine made, as it is."""
        self._effects[effect.action] = effect

    def effect(self, action: str) -> Effect | None:
        """The effect of the action called `action`."""
        return self._effects.get(action)

    def prober(self, action: str) -> Effect | None:
        """The probe of the action called `action`."""
        return self._probes.get(action)

    def missing(self) -> tuple[str, ...]:
        """The actions of the machine that have no effect here."""
        return tuple(name for name in self.machine.actions if name not in self._effects)

    def _declare(
        self,
        function: Callable[..., Any],
        table: dict[str, Effect],
        what: str,
        retry: Retry,
        limits: _Limits,
    ) -> None:
        signature = read(function, what=what, takes=1, extra=Attempt)
        where = f"machine {self.machine.name!r}: {what} {signature.place}"
        brings = self._events(signature.returns, where, probe=table is self._probes)
        for member in members(signature.hints[0], where):
            declared = self.machine.actions.get(member.name)
            if declared is None or declared.cls is not member.cls:
                raise DefinitionError(f"{where}: {member.name} is no declared action of the machine")
            if (other := table.get(member.name)) is not None:
                raise DefinitionError(f"{where}: {member.name} has a {what} already: {place(other.function)}")
            is_async = inspect.iscoroutinefunction(function)
            table[member.name] = Effect(
                function, signature.context, is_async, retry, limits.timeout, member.name, brings, limits.silence,
                limits.isolated, limits.inline,
            )  # fmt: skip

    def _events(self, returns: object, where: str, *, probe: bool) -> tuple[Member, ...]:
        """The events that the result names. Raises DefinitionError: one that the machine does not declare, or the engine's."""
        found: dict[object, Member] = {}
        for part in _alternatives(returns):
            if part in (None, NoneType) or (probe and part is NotDone):
                continue
            for member in members(part, where):
                if not member.from_outside:
                    raise DefinitionError(
                        f"{where}: {member.name} is made by the engine; an effect raises instead"
                    )
                if member.key not in {m.key for m in self.machine.events.values()}:
                    raise DefinitionError(f"{where}: {member.name} is no declared event of the machine")
                found[member.key] = member
        return tuple(found.values())


class _Act(Generic[R]):
    """What `act(retry=...)` gives: the decorator itself, with the same two forms."""

    if TYPE_CHECKING:

        @overload
        def __call__(self, function: Callable[[Act], Out], /) -> Callable[[Act], Out]: ...
        @overload
        def __call__(
            self, function: Callable[[Act, Attempt[R]], Out], /
        ) -> Callable[[Act, Attempt[R]], Out]: ...
        def __call__(self, function: Any, /) -> Any: ...


def results(value: object) -> list[object]:
    """What an effect returned, as a list of events: None is none, a list or tuple is its members."""
    if value is None:
        return []
    return list(cast("Sequence[object]", value)) if isinstance(value, list | tuple) else [value]


def _alternatives(returns: object) -> list[object]:
    alias = getattr(returns, "__value__", None)
    if alias is not None:
        return _alternatives(alias)
    if get_origin(returns) in (Union, UnionType):
        return [part for arg in get_args(returns) for part in _alternatives(arg)]
    if get_origin(returns) in (list, tuple, Sequence):
        return [part for arg in get_args(returns) if arg is not Ellipsis for part in _alternatives(arg)]
    return [returns]


def _positive(timeout: float | timedelta, name: str = "timeout") -> timedelta:
    span = timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)
    if span <= timedelta(0):
        raise DefinitionError(f"{name} must be positive, not {timeout}")
    return span
