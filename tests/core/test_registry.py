"""The machines that one process knows."""

import pytest

from fsm_core import Effects, Machine
from fsm_core.errors import DefinitionError, DuplicateMachine, UnknownMachine
from fsm_core.registry import AnyMachine, Registry
from tests.core.worker import Go, Idle, make


def named(name: str, version: int = 1) -> AnyMachine:
    return Machine(name, states=Idle, events=Go, version=version)


def test_two_machines_of_one_name_and_version_are_an_error() -> None:
    """The same value twice is none, another version is none."""
    first = named("door", 2)
    registry = Registry([first, named("door"), first])

    with pytest.raises(DuplicateMachine) as caught:
        registry.add(named("door", 2))

    assert (caught.value.name, caught.value.version) == ("door", 2)
    assert registry.machine("door", 2) is first


def test_two_sets_of_effects_for_one_machine_are_an_error() -> None:
    """The same set twice is none."""
    machine = make()
    one, other = Effects(machine), Effects(machine)
    registry = Registry([one, machine, one])

    with pytest.raises(DefinitionError, match="machine 'm' version 1 has two sets of effects"):
        registry.add(other)

    assert registry.effects("m", 1) is one
    assert registry.all_effects() == (one,)


def test_an_unknown_machine_lists_those_that_are_known() -> None:
    """By exact version, or by name alone."""
    registry = Registry([named("lamp"), named("door", 2), named("door", 10)])

    with pytest.raises(
        UnknownMachine,
        match=r"no machine 'door' version 1 is registered here \(registered: door v2, door v10, lamp\)",
    ):
        registry.machine("door", 1)
    with pytest.raises(UnknownMachine, match="no machine 'gate' is registered here"):
        registry.newest("gate")
    with pytest.raises(UnknownMachine, match="none at all"):
        Registry().newest("gate")


def test_what_is_known_is_listed_by_name_and_version() -> None:
    """Versions are numbers: 10 is newer than 2."""
    registry = Registry([named("lamp"), named("door", 10), named("door", 2)])

    assert registry.newest("door").version == 10
    assert registry.known() == {"door": [2, 10], "lamp": [1]}
    assert [m.version for m in registry.machines()] == [2, 10, 1]
    assert registry.effects("door", 2) is None
