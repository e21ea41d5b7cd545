"""Reading an edge from a function's signature: the single source of dispatch, diagram and checks."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Never, NoReturn, Union, get_args, get_origin, get_type_hints

from fsm_core.context import Context
from fsm_core.errors import DefinitionError
from fsm_core.types import ToAlias
from fsm_core.unions import Member, members

if TYPE_CHECKING:
    from types import FrameType

_SEQUENCES = (list, Sequence, tuple)


@dataclass(frozen=True)
class Result:
    """What an edge may give. `states` is empty for an edge that always rejects; `actions` is None where left open."""

    states: tuple[Member, ...]
    actions: tuple[Member, ...] | None


@dataclass(frozen=True)
class Signature:
    """A handler's parameters, their hints in order, whether its last one is a Context, and its return hint."""

    function: Callable[..., Any]
    hints: tuple[object, ...]
    context: bool
    returns: object

    @property
    def place(self) -> str:
        """`name (file:line)`, for messages."""
        return place(self.function)


def place(function: Callable[..., Any]) -> str:
    """`name (file:line)` of a function."""
    code = getattr(function, "__code__", None)
    where = "" if code is None else f" ({code.co_filename}:{code.co_firstlineno})"
    return f"{getattr(function, '__qualname__', function)}{where}"


def caller() -> FrameType:
    """The frame in which the decorator was applied: the nearest one outside this package's own modules.

    The one place that looks: a bare decorator and a called one are a different number of frames away.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - the way to a caller's local names
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("fsm_core."):
        frame = frame.f_back
    return frame


def read(
    function: Callable[..., Any],
    *,
    what: str,
    takes: int,
    extra: type | None = Context,
    coroutines: bool = False,
) -> Signature:
    """The signature of `function`, a handler with `takes` positional parameters and an optional one of type `extra`.

    Raises DefinitionError that names the function and the annotation: missing, unresolvable, or too many parameters.
    """
    here = f"{what} {place(function)}"
    if inspect.iscoroutinefunction(function) and extra in (Context, None) and not coroutines:
        raise DefinitionError(f"{here}: transitions are plain functions; read before, act in an effect")
    hints = _hints(function, here)
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    most = takes + (extra is not None)
    if len(positional) != len(parameters) or not takes <= len(positional) <= most:
        raise DefinitionError(
            f"{here}: takes {takes} positional parameters"
            + (f" and may take a {extra.__name__} after them" if extra is not None else "")
        )
    for parameter in positional:
        if parameter.name not in hints:
            raise DefinitionError(f"{here}: parameter {parameter.name!r} has no annotation")
    if "return" not in hints:
        raise DefinitionError(f"{here}: the result has no annotation")
    with_extra = len(positional) > takes
    if with_extra and extra is not None and not _is(hints[positional[-1].name], extra):
        raise DefinitionError(f"{here}: the last parameter must be a {extra.__name__}")
    return Signature(function, tuple(hints[p.name] for p in positional[:takes]), with_extra, hints["return"])


def _hints(function: Callable[..., Any], here: str) -> dict[str, Any]:
    frame = caller()
    own = getattr(function, "__globals__", frame.f_globals)
    # A function of another module is read with that module's names; the caller's only fill in.
    names = {**frame.f_globals, **frame.f_locals, **({} if own is frame.f_globals else own)}
    try:
        return get_type_hints(function, localns=names, include_extras=True)
    except NameError as error:
        raise DefinitionError(
            f"{here}: annotation {error.name!r} cannot be resolved; is it imported only while type checking?"
        ) from error
    except (TypeError, AttributeError, SyntaxError) as error:
        raise DefinitionError(f"{here}: {error}") from error


def _is(hint: object, cls: type) -> bool:
    return hint is cls or get_origin(hint) is cls


def result(returns: object, where: str) -> Result:
    """What the return annotation of a transition names: `To[S, A]`, `S`, `tuple[S, list[A]]`, unions of them, `Never`.

    Raises DefinitionError that begins with `where`.
    """
    states: list[Member] = []
    actions: list[Member] = []
    is_open = False
    for part in _parts(returns):
        named, emitted = _part(part, where)
        states += named
        is_open = is_open or emitted is None
        actions += emitted or ()
    unique = tuple(dict.fromkeys(states))
    return Result(unique, None if is_open else tuple(dict.fromkeys(actions)))


def _parts(returns: object) -> list[object]:
    alias = getattr(returns, "__value__", None)
    if alias is not None:
        return _parts(alias)
    if get_origin(returns) in (Union, types.UnionType):
        return [part for arg in get_args(returns) for part in _parts(arg)]
    return [returns]


def _part(part: object, where: str) -> tuple[tuple[Member, ...], tuple[Member, ...] | None]:
    """The states of one alternative and its actions; None for actions that `To[S]` leaves open."""
    if part in (Never, NoReturn):
        return (), ()
    if isinstance(part, ToAlias):
        return members(part.states, where), None if part.actions is None else members(part.actions, where)
    if get_origin(part) is tuple:
        state, *rest = get_args(part) or (None,)
        if len(rest) == 1 and get_origin(rest[0]) in _SEQUENCES:
            return members(state, where), _elements(rest[0], where)
        raise DefinitionError(f"{where}: a tuple result is tuple[State, list[Action]]")
    return members(part, where), ()


def emitted(returns: object, where: str) -> tuple[Member, ...]:
    """The actions that a `list[A]` (or another sequence of A) names. Raises DefinitionError that begins with `where`."""
    if get_origin(returns) not in _SEQUENCES or not get_args(returns):
        raise DefinitionError(f"{where}: the result is list[Action]")
    return _elements(returns, where)


def _elements(sequence: object, where: str) -> tuple[Member, ...]:
    """The classes that `list[A]`, `Sequence[A]`, `tuple[A, ...]` or `tuple[A, B]` names."""
    found = [m for arg in get_args(sequence) if arg is not Ellipsis for m in members(arg, where)]
    return tuple(dict.fromkeys(found))
