"""The actions of a `Steps` machine, one class for each step, and what reads those of an older version."""

from __future__ import annotations

from dataclasses import make_dataclass, replace
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from fsm_core.edges import Upcaster
from fsm_core.steps.outcomes import HOLDING, Child, Received

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsm_core.signature import Signature


@cache
def action_class(name: str, data: type) -> type:
    """The class of the action that runs the step called `name`: the state of the run, and what the step is shown."""
    fields: list[tuple[str, Any]] = [
        ("state", data), ("awaited", tuple[Received, ...]), ("attempt", int), ("timed_out", bool),
        ("children", tuple[Child, ...]), ("delay", timedelta | None),
    ]  # fmt: skip
    return make_dataclass(name, fields, frozen=True, namespace={"__doc__": f"Run the step {name}."})


def older_action(action: type, older: Signature) -> Upcaster:
    """What reads such an action of a version that had other data; `older` is the function from these to the present ones."""
    old = action_class(action.__name__, older.hints[0])
    return Upcaster(old, partial(_renewed, action, older.function), older)


def older_outcome(name: str, older: Signature) -> Upcaster | None:
    """The same of an outcome, if it is one that holds data."""
    form: Any = next((form for form in HOLDING if form.__name__ == name), None)
    return None if form is None else Upcaster(form[older.hints[0]], upcast_in(older.function), older)


def upcast_in(function: Callable[[Any], Any], hints: dict[str, object] | None = None) -> Callable[[Any], Any]:
    """A function from an outcome that holds older data to one with the present ones, annotated with `hints`."""

    def within(value: Any) -> Any:
        return replace(value, state=function(value.state))

    within.__annotations__ = hints or {}
    return within


def _renewed(action: type, function: Callable[[Any], Any], old: Any) -> Any:
    return action(function(old.state), old.awaited, old.attempt, old.timed_out, old.children, old.delay)
