"""What a machine lets be declared, when, and how often."""

import re
from collections.abc import Callable
from typing import Any, Never

import pytest

from fsm_core import Failed, Route, To, advance, begin
from fsm_core.errors import DefinitionError, UnknownType
from fsm_core.machine import Machine
from fsm_core.registry import AnyMachine
from tests.core.worker import Busy, Foreign, Go, Idle, Ring, Stop, Tell, make


def test_two_handlers_for_one_pair_name_both_places() -> None:
    """The error names the second function, the pair, and file and line of the first."""
    m = make()

    @m.on
    def first(state: Idle | Busy, event: Go) -> Idle:
        return Idle()

    line = first.__code__.co_firstlineno
    with pytest.raises(DefinitionError) as caught:

        @m.on
        def second(state: Busy, event: Go | Stop) -> Idle:
            return Idle()

    assert re.search(r"second \(.*test_declaration\.py:\d+\): \(Busy, Go\)", str(caught.value))
    assert re.search(rf"first \(.*test_declaration\.py:{line}\)", str(caught.value))


def test_two_fallbacks_for_one_pair_are_an_error_but_a_fallback_beside_a_handler_is_not() -> None:
    """`otherwise` competes with itself only; where both fit, `on` wins."""
    m = make()

    @m.otherwise
    def fallback(state: Idle, event: Go) -> To[Idle, Tell]:
        return state, [Tell()]

    @m.on
    def real(state: Idle, event: Go) -> Busy:
        return Busy()

    with pytest.raises(DefinitionError, match=r"\(Idle, Go\) is taken by .*fallback"):

        @m.otherwise
        def again(state: Idle, event: Go) -> Idle:
            return state

    assert advance(m, Idle(), Go()) == (Busy(), [])


def test_a_decorator_returns_the_very_function() -> None:
    """What is declared stays callable as it is written."""
    m = make()

    def go(state: Idle, event: Go) -> Busy:
        return Busy()

    def ring(state: Busy) -> list[Ring]:
        return [Ring()]

    def where(action: Ring) -> Route:
        return Route()

    def rest(state: Busy, event: Go) -> Busy:
        return state

    assert (m.on(go), m.enter(ring), m.route(where), m.otherwise(rest)) == (go, ring, where, rest)


def test_a_refused_handler_leaves_no_edge() -> None:
    """A handler that is refused for one pair has taken none of the others."""
    m = make()

    @m.on
    def first(state: Busy, event: Go) -> Idle:
        return Idle()

    with pytest.raises(DefinitionError):

        @m.on
        def second(state: Idle | Busy, event: Go) -> Idle:
            return Idle()

    @m.on
    def third(state: Idle, event: Go) -> Busy:
        return Busy()

    assert advance(m, Idle(), Go()).state == Busy()


def test_a_state_is_entered_by_one_function() -> None:
    """Two `enter` functions for one state name the state and the first function."""
    m = make()

    @m.enter
    def first(state: Idle | Busy) -> list[Ring]:
        return []

    with pytest.raises(
        DefinitionError, match=r"second .*state Busy has an enter function already: .*first \("
    ):

        @m.enter
        def second(state: Busy) -> list[Ring]:
            return []


def test_an_action_is_routed_by_one_function() -> None:
    """Two `route` functions for one action name the action and the first function."""
    m = make()

    @m.route
    def first(action: Ring | Tell) -> Route:
        return Route()

    with pytest.raises(DefinitionError, match=r"second .*action Tell is routed by .*first \("):

        @m.route
        def second(action: Tell) -> Route:
            return Route()


def advancing(m: AnyMachine) -> object:
    return m.takes(Idle(), Go())


def beginning(m: AnyMachine) -> object:
    return begin(m, Idle())


def routing(m: AnyMachine) -> object:
    return m.routed(Ring())


@pytest.mark.parametrize("use", [advancing, beginning, routing])
@pytest.mark.parametrize("declare", ["on", "otherwise", "enter", "route"])
def test_the_first_use_freezes_the_machine(use: Callable[[Any], object], declare: str) -> None:
    """After the first use nothing can be declared: else what a process imports would decide."""
    m = make()
    use(m)

    def f(state: Idle, event: Go) -> Idle:
        return state

    with pytest.raises(DefinitionError, match="machine 'm' is in use"):
        getattr(m, declare)(f)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": Go | Failed[Foreign]}, r"Failed\[Foreign\] can never come"),
        ({"events": Go | Failed[Tell]}, r"Failed\[Tell\] can never come: no tracked action"),
        ({"events": Go | Failed[Ring], "actions": Never}, r"Failed\[Ring\] can never come"),
        ({"final": Foreign}, "final: Foreign is no declared state"),
        ({"initial": Foreign()}, "initial= is a Foreign, no declared state"),
        ({"unhandled": "drop"}, "unhandled= is 'reject', 'ignore' or 'defer', not 'drop'"),
        ({"version": 0}, "version= begins at 1"),
        ({"states": "Idle | Busy"}, "is text; name the classes themselves"),
        ({"states": Idle | None}, "is no class and no union of classes"),
        ({"states": list[int]}, "is no class and no union of classes"),
        ({"states": 3}, "3 is no class"),
    ],
)
def test_a_wrong_machine_is_refused(options: dict[str, Any], message: str) -> None:
    """What the constructor is given is checked there."""
    with pytest.raises(DefinitionError, match=message):
        make(**options)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a\n", "x" * 64, "semi;colon"])
def test_a_machine_has_a_name_that_fits_rows_and_commands(name: str) -> None:
    """Anything but 1 to 63 letters, digits, '_', '-' and '.' is refused."""
    with pytest.raises(DefinitionError, match="a name is 1 to 63 letters"):
        Machine(name, states=Idle, events=Go)


@pytest.mark.parametrize("role", ["states", "events", "actions"])
def test_two_classes_of_one_name_in_one_union_are_an_error(role: str) -> None:
    """Rows keep names: two classes that share one could not be told apart."""

    def twin() -> type:
        class Go:
            pass

        return Go

    with pytest.raises(DefinitionError, match=f"{role}: two classes are called 'Go'"):
        make(**{"events": Stop, role: Go | twin()})


def test_failed_is_dispatched_by_the_class_of_its_action() -> None:
    """`Failed[A | B]` is two edges; a failure of an action that the machine does not listen to is no event of it."""
    m = Machine("m", states=Idle | Busy, events=Failed[Ring | Tell], actions=Ring | Tell | Stop)

    @m.on
    def lost(state: Idle, event: Failed[Ring | Tell]) -> Busy:
        return Busy(event.attempts)

    assert advance(m, Idle(), Failed(Ring(), "gone", 3)) == (Busy(3), [])
    assert advance(m, Idle(), Failed(Tell(), "gone", 4)) == (Busy(4), [])
    assert not m.has_edge(Failed(Stop()))
    with pytest.raises(UnknownType, match=r"Failed\[Stop\] is no event"):
        advance(m, Idle(), Failed(Stop()))  # type: ignore[type-var]
