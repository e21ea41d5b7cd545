"""Machines in a module whose annotations are postponed: they are text until the decorator reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from fsm_core import Attempt, Context, Effects, Machine, Route, To, advance, begin
from fsm_core.errors import DefinitionError
from tests.core import elsewhere

if TYPE_CHECKING:
    from decimal import Decimal


def test_a_machine_of_local_classes_resolves_its_postponed_annotations() -> None:
    """All decorators, bare and called, find classes that exist only in the function around them."""

    @dataclass(frozen=True)
    class Off:
        pass

    @dataclass(frozen=True)
    class On:
        at: int

    @dataclass(frozen=True)
    class Press:
        pass

    @dataclass(frozen=True)
    class Beep:
        pass

    lamp = Machine("lamp", states=Off | On, events=Press, actions=Beep)

    @lamp.on
    def press(state: Off, event: Press, ctx: Context) -> To[On, Beep]:
        return On(0), [Beep()]

    @lamp.otherwise
    def rest(state: Off | On, event: Press) -> Off | On:
        return state

    @lamp.enter
    def enter(state: On) -> list[Beep]:
        return [Beep()]

    @lamp.route
    def route(action: Beep) -> Route:
        return Route(queue="loud")

    effects = Effects(lamp)

    @effects.act
    def beep(action: Beep) -> Press: ...

    @effects.probe
    def beeped(action: Beep, attempt: Attempt[None]) -> Press: ...

    called = Effects(lamp)

    @called.act(timeout=3)
    def beep_called(action: Beep, attempt: Attempt[None]) -> list[Press]: ...

    assert advance(lamp, On(1), Press()) == (On(1), [])
    assert begin(lamp, On(1)).actions == [Beep()]
    assert lamp.routed(Beep()).queue == "loud"
    assert effects.missing() == called.missing() == ()


def test_a_name_that_exists_only_while_type_checking_is_named() -> None:
    """The error names the function and the annotation that cannot be resolved."""

    @dataclass(frozen=True)
    class Off:
        pass

    m = Machine("m", states=Off, events=Off)

    with pytest.raises(
        DefinitionError, match=r"late .*annotation 'Decimal' cannot be resolved; is it imported only"
    ):

        @m.on
        def late(state: Off, event: Off) -> Decimal: ...


def test_a_function_of_another_module_is_read_with_its_own_names() -> None:
    """Where the same name means another class here, the function's own module decides."""

    @dataclass(frozen=True)
    class State:
        """Not the one that `elsewhere.keep` means."""

    m = Machine("m", states=elsewhere.State, events=elsewhere.Event)
    m.on(elsewhere.keep)

    assert advance(m, elsewhere.State(), elsewhere.Event()).state == elsewhere.State()
    assert State is not elsewhere.State
