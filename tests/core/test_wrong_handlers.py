"""A handler that is declared wrongly is refused where it is declared, and the message says where."""

from collections import abc
from typing import TYPE_CHECKING

import pytest

from fsm_core import Context, Failed, Route, To
from fsm_core.errors import DefinitionError
from fsm_core.registry import AnyMachine
from tests.core.worker import Busy, Foreign, Go, Idle, Over, Ring, make

if TYPE_CHECKING:
    from collections.abc import Callable


def foreign_state(m: AnyMachine) -> None:
    @m.on
    def f(state: Foreign, event: Go) -> Idle:
        return Idle()


def foreign_event(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: Foreign) -> Idle:
        return Idle()


def foreign_result(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: Go) -> Idle | Foreign:
        return Idle()


def foreign_action(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: Go) -> To[Idle, Ring | Foreign]:
        return Idle()


def foreign_entry(m: AnyMachine) -> None:
    @m.enter
    def f(state: Foreign) -> list[Ring]:
        return []


def foreign_entry_action(m: AnyMachine) -> None:
    @m.enter
    def f(state: Idle) -> list[Foreign]:
        return []


def foreign_route(m: AnyMachine) -> None:
    @m.route
    def f(action: Foreign) -> Route:
        return Route()


def no_state_annotation(m: AnyMachine) -> None:
    @m.on
    def f(state, event: Go) -> Idle:  # type: ignore[no-untyped-def]  # noqa: ANN001
        return Idle()


def no_event_annotation(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event) -> Idle:  # type: ignore[no-untyped-def]  # noqa: ANN001
        return Idle()


def no_result_annotation(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: Go):  # type: ignore[no-untyped-def]  # noqa: ANN202
        return Idle()


def only_while_type_checking(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: Go) -> "Callable[[], Idle]":
        return Idle  # pragma: no cover


def missing_attribute(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: "abc.Missing") -> Idle:  # type: ignore[name-defined]
        return Idle()


def no_expression(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: "Go Go") -> Idle:  # type: ignore[syntax]  # noqa: F722
        return Idle()


def edge_from_a_final_state(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle | Over, event: Go) -> Idle:
        return Idle()


def asynchronous_transition(m: AnyMachine) -> None:
    @m.on
    async def f(state: Idle, event: Go) -> Idle:
        return Idle()


def asynchronous_entry(m: AnyMachine) -> None:
    @m.enter
    async def f(state: Idle) -> list[Ring]:
        return []


def asynchronous_route(m: AnyMachine) -> None:
    @m.route
    async def f(action: Ring) -> Route:
        return Route()


def third_parameter_is_no_context(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: Go, extra: int) -> Idle:
        return Idle()


def too_many_parameters(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: Go, ctx: Context, more: Context) -> Idle:
        return Idle()


def too_few_parameters(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle) -> Idle:
        return Idle()


def keyword_only_parameter(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, *, event: Go) -> Idle:
        return Idle()


def any_number_of_parameters(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, *event: Go) -> Idle:
        return Idle()


def context_for_a_route(m: AnyMachine) -> None:
    @m.route
    def f(action: Ring, ctx: Context) -> Route:
        return Route()


def route_to_a_name(m: AnyMachine) -> None:
    @m.route
    def f(action: Ring) -> str:
        return "queue"


def entry_without_a_list(m: AnyMachine) -> None:
    @m.enter
    def f(state: Idle) -> Ring:
        return Ring()


def tuple_of_two_states(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: Go) -> tuple[Idle, Busy]:
        return Idle(), Busy()


def empty_tuple(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: Go) -> tuple[()]:
        return ()


def second_action_of_a_fixed_tuple(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: Go) -> tuple[Idle, tuple[Ring, Foreign]]:
        return Idle(), (Ring(), Foreign())


def no_result(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: Go) -> None:
        return None


def bare_failed(m: AnyMachine) -> None:
    @m.on
    def f(state: Idle, event: Failed) -> Idle:  # type: ignore[type-arg]
        return Idle()


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (foreign_state, "Foreign is no declared state"),
        (foreign_event, "Foreign is no declared event"),
        (foreign_result, "Foreign is no declared state"),
        (foreign_action, "Foreign is no declared action"),
        (foreign_entry, "Foreign is no declared state"),
        (foreign_entry_action, "Foreign is no declared action"),
        (foreign_route, "Foreign is no declared action"),
        (no_state_annotation, "parameter 'state' has no annotation"),
        (no_event_annotation, "parameter 'event' has no annotation"),
        (no_result_annotation, "the result has no annotation"),
        (only_while_type_checking, "annotation 'Callable' cannot be resolved; is it imported only while"),
        (missing_attribute, "no attribute 'Missing'"),
        (no_expression, "Go Go"),
        (edge_from_a_final_state, "state Over is final"),
        (asynchronous_transition, "plain functions"),
        (asynchronous_entry, "plain functions"),
        (asynchronous_route, "plain functions"),
        (third_parameter_is_no_context, "the last parameter must be a Context"),
        (too_many_parameters, "takes 2 positional parameters and may take a Context"),
        (too_few_parameters, "takes 2 positional parameters"),
        (keyword_only_parameter, "takes 2 positional parameters"),
        (any_number_of_parameters, "takes 2 positional parameters"),
        (context_for_a_route, "takes 1 positional parameters$"),
        (route_to_a_name, "the result is Route"),
        (entry_without_a_list, r"the result is list\[Action\]"),
        (tuple_of_two_states, r"a tuple result is tuple\[State, list\[Action\]\]"),
        (empty_tuple, r"a tuple result is tuple\[State, list\[Action\]\]"),
        (second_action_of_a_fixed_tuple, "Foreign is no declared action"),
        (no_result, "is no class and no union of classes"),
        (bare_failed, r"write Failed\[Action\]"),
    ],
)
def test_a_wrong_handler_is_refused_where_it_is_declared(
    declare: abc.Callable[[AnyMachine], None], message: str
) -> None:
    """The error says what is wrong and names the function with its file."""
    with pytest.raises(DefinitionError, match=message) as caught:
        declare(make())

    assert f"{declare.__name__}.<locals>.f (" in str(caught.value)
    assert "test_wrong_handlers.py:" in str(caught.value)
