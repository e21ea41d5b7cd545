"""Fan-in as a value: which children a state waits for, counted in the parent's own state, so the join is in its log and replays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fsm_core.errors import TransitionError
from fsm_core.types import ChildEnded, Failed, Spawn, key_text

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Join:
    """Waits until `need` of its children have done well. A field of a state: pure, and kept with it.

    open: children not heard of yet, as `machine/key`. done, failed: those that were, in the order of their ends. A deadline
    is the state's own: `@machine.timeout`.
    """

    need: int
    open: tuple[str, ...]
    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @classmethod
    def all(cls, children: Iterable[Spawn]) -> Join:
        """Every child must do well. Raises TransitionError as `of` does."""
        names = [_name(child) for child in children]
        return cls._made(len(names), names)

    @classmethod
    def any(cls, children: Iterable[Spawn]) -> Join:
        """One is enough. Raises TransitionError as `of` does."""
        return cls.of(1, children)

    @classmethod
    def of(cls, need: int, children: Iterable[Spawn]) -> Join:
        """`need` of them. Raises TransitionError: a child without a key or named twice, or fewer children than needed."""
        return cls._made(need, [_name(child) for child in children])

    @classmethod
    def _made(cls, need: int, names: list[str]) -> Join:
        if len(set(names)) < len(names):
            raise TransitionError(f"a Join names a child twice: {', '.join(names):.200}")
        if not 0 <= need <= len(names):
            raise TransitionError(f"a Join needs {need} of {len(names)} children")
        return cls(need, tuple(names))

    def heard(self, event: ChildEnded[Any] | Failed[Spawn], *, good: bool | None = None) -> Join:
        """The join after one child's end. `good`: whether it did well (None: yes, unless it is a `Failed`).

        One that it does not wait for, or has heard of, changes nothing.
        """
        child = event if isinstance(event, ChildEnded) else event.action
        name = _name(child)
        if name not in self.open:
            return self
        well = isinstance(event, ChildEnded) if good is None else good
        rest = tuple(other for other in self.open if other != name)
        return (
            replace(self, open=rest, done=(*self.done, name))
            if well
            else replace(self, open=rest, failed=(*self.failed, name))
        )

    @property
    def met(self) -> bool:
        """Whether enough have done well."""
        return len(self.done) >= self.need

    @property
    def lost(self) -> bool:
        """Whether too few are left for it ever to be met."""
        return len(self.done) + len(self.open) < self.need


def _name(child: Spawn | ChildEnded[Any]) -> str:
    if child.key is None:
        raise TransitionError("a Join names its children by their keys: give Spawn one")
    machine = child.machine if isinstance(child.machine, str) else child.machine.name
    return f"{machine}/{key_text(child.key)}"
