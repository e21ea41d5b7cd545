"""Reading a union of types as it is written: `A | B`, `Union[...]`, `type X = ...`, `Annotated`, one class, `Never`."""

from __future__ import annotations

import types
from dataclasses import dataclass, field, is_dataclass
from typing import Annotated, Any, Never, NoReturn, TypeVar, Union, get_args, get_origin

from fsm_core.errors import DefinitionError
from fsm_core.types import ENGINE_EVENTS, TIMERS, UNTRACKED, WRAPPERS, Internal


@dataclass(frozen=True)
class Member:
    """One member of a union: a class; for `Failed[Charge]` and `ChildEnded[Paid]` that class and `of` what it holds.

    form: for a generic class, how it was written (`Page[Order]`), for the codec; dispatch knows the class alone.
    """

    cls: type
    of: type | None = None
    tracked: bool = True
    form: Any = field(default=None, compare=False)

    @property
    def key(self) -> object:
        """What dispatch looks up: the class, or (Failed, class of its action), (ChildEnded, class of its state)."""
        return self.cls if self.of is None else (self.cls, self.of)

    @property
    def from_outside(self) -> bool:
        """Whether anybody may send it; `Failed`, `Timeout` and `ChildEnded` are made by the engine only."""
        return self.cls not in ENGINE_EVENTS and not issubclass(self.cls, Internal)

    @property
    def name(self) -> str:
        """How rows, diagrams and messages call it."""
        return self.cls.__name__ if self.of is None else f"{self.cls.__name__}[{self.of.__name__}]"


def members(form: object, where: str) -> tuple[Member, ...]:
    """The members of the union `form`, in the order written, each once; `Never` has none.

    Raises DefinitionError that begins with `where`, if something in it is no class.
    """
    found: dict[object, Member] = {}
    for member in _expand(form, where, tracked=True):
        found.setdefault(member.key, member)
    return tuple(found.values())


def _expand(form: object, where: str, *, tracked: bool) -> list[Member]:
    if form in (Never, NoReturn):
        return []
    if isinstance(form, str):
        raise DefinitionError(f"{where}: {form!r} is text; name the classes themselves")
    alias = getattr(form, "__value__", None)  # type State = A | B
    if alias is not None:
        return _expand(alias, where, tracked=tracked)
    if get_origin(form) in (Union, types.UnionType):
        return [m for part in get_args(form) for m in _expand(part, where, tracked=tracked)]
    if get_origin(form) is Annotated:
        inner, *marks = get_args(form)
        return _expand(inner, where, tracked=tracked and UNTRACKED not in marks)
    return _single(form, where, tracked=tracked)


def _single(form: object, where: str, *, tracked: bool) -> list[Member]:
    """What is no union: a class, or one of the built-in generics."""
    origin = get_origin(form)
    if origin in TIMERS:
        return [Member(origin)]
    if origin in WRAPPERS:
        return [Member(origin, of=m.cls) for m in _expand(get_args(form)[0], where, tracked=True)]
    if form in WRAPPERS:
        what = (
            "Failed[Action], with the action whose failure"
            if form is WRAPPERS[0]
            else "ChildEnded[State], with the state that"
        )
        raise DefinitionError(f"{where}: write {what} is meant")
    if isinstance(origin, type) and (is_dataclass(origin) or hasattr(origin, "__struct_fields__")):
        return [Member(origin, tracked=tracked, form=form)]
    if isinstance(form, type) and form not in (object, type(None), tuple, Any):
        return [Member(form, tracked=tracked)]
    if isinstance(form, TypeVar):
        raise DefinitionError(f"{where}: {form!r} is a type variable; name a class")
    raise DefinitionError(f"{where}: {form!r} is no class and no union of classes")
