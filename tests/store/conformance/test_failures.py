"""Of finito's five kinds of error those that every store makes, and their relatives, each provoked for real.

Source: finito-postgres, ErrorKind: Serialization, FSMNotFound, ActionNotFound.
"""

from typing import Any
from uuid import UUID

import pytest

from examples.door import Open, Opened, door
from fsm_core import ActionId
from fsm_core.errors import (
    ActionNotFound,
    DuplicateMachine,
    InvalidPayload,
    MachineNotFound,
    PayloadTooLarge,
    UnknownMachine,
)
from fsm_core.payload import Limits
from tests.store.conformance.conftest import MakeWorld
from tests.store.machines import New, Note, Pay, build, orders
from tests.store.world import World


def test_serialization_a_row_that_does_not_fit_its_class(world: World) -> None:
    """The state's JSON was changed from outside: the error names state and field, and nothing is written."""
    world.store.start(orders, 7, New(42))
    world.change_state('{"total": "many"}')
    before = world.contents()

    for call in (lambda: world.store.get(orders, 7), lambda: world.store.advance(orders, 7, Pay())):
        with pytest.raises(
            InvalidPayload, match=r"state New does not fit New: Expected `int`, got `str` - at `\$.total`"
        ):
            call()

    assert world.contents() == before
    assert world.store.record(orders, 7).state == {"total": "many"}


def test_machine_not_found_and_action_not_found(world: World) -> None:
    """The rows that are missing are named in attributes and message."""
    wanted = ActionId(UUID(int=9), 4, 2)
    with pytest.raises(MachineNotFound) as machine:
        world.store.get(door, "none")
    with pytest.raises(ActionNotFound) as action:
        world.store.action(wanted)

    assert (machine.value.name, machine.value.key) == ("door", "none")
    assert action.value.action_id == "00000000-0000-0000-0000-000000000009.4.2"


def test_two_machines_of_one_name_and_version_are_refused_at_their_first_use(world: World) -> None:
    """Rows could not tell them apart; the machine that was known first goes on."""
    world.store.start(orders, 7, New(1))
    other = build()

    for call in (
        lambda: world.store.start(other, 8, New(1)),
        lambda: world.store.get(other, 7),
        lambda: world.store.advance(other, 7, Note()),
    ):
        with pytest.raises(DuplicateMachine):
            call()

    assert world.store.advance(orders, 7, Note()).seq == 1


def test_two_machines_of_one_name_and_version_are_refused_at_start(make_world: MakeWorld) -> None:
    """A store that is given both is not made."""
    with pytest.raises(DuplicateMachine, match="two machines are called 'orders', version 1"):
        make_world(machines=[orders, build()])


def test_a_row_of_a_version_that_nobody_knows_is_left_alone(world: World, make_world: MakeWorld) -> None:
    """UnknownMachine names the version and those that are known; with the old one registered the row goes on in it."""
    newer = build(version=2)
    world.store.start(orders, 7, New(1))
    before = world.contents()
    young = make_world(machines=[newer])

    for call in (
        lambda: young.store.get(newer, 7),
        lambda: young.store.advance(newer, 7, Note()),
        lambda: young.store.start(newer, 7, New(1)),
    ):
        with pytest.raises(
            UnknownMachine,
            match=r"no machine 'orders' version 1 is registered here \(registered: orders v2\)",
        ):
            call()
    assert world.contents() == before

    both = make_world(machines=[newer, orders])
    assert both.store.advance(newer, 7, Note()).version == 1
    assert both.store.start(newer, 8, New(1)).version == 2


def test_the_limits_of_payloads_are_the_stores(make_world: MakeWorld) -> None:
    """Events, states and what an event emits are measured alike."""
    world = make_world(limits=Limits(size=60))
    world.store.start(orders, 7, New(1))
    before = world.contents()

    with pytest.raises(PayloadTooLarge, match="event Note has 62 bytes, the limit is 60"):
        world.store.advance(orders, 7, Note("x" * 51))
    with pytest.raises(PayloadTooLarge, match="action Charge has"):
        world.store.advance(orders, 7, Pay("x" * 49))

    assert world.contents() == before
    assert world.store.advance(orders, 7, Note("x" * 49)).seq == 1


def test_a_broken_transition_changes_nothing_and_is_not_dressed_up(make_world: MakeWorld) -> None:
    """A bug in the application's code arrives as it is."""

    def break_(state: Opened, event: Open) -> Opened:
        raise ZeroDivisionError("a bug")

    broken: Any = type(door)("door", states=Opened, events=Open, initial=Opened())
    broken.on(break_)
    world = make_world()
    world.store.start(broken, "front")
    before = world.contents()

    with pytest.raises(ZeroDivisionError, match="a bug"):
        world.store.advance(broken, "front", Open())

    assert world.contents() == before
