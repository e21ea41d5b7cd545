"""`advance_many`: many events in a few statements, each on its own footing, in the order given."""

import pytest

from fsm_core import Rejected, UnhandledEvent
from fsm_core.errors import InvalidKey, MachineNotFound, UnknownType
from tests.store.conformance.conftest import MakeWorld
from tests.store.family import Book, Confirm, leg, trip
from tests.store.machines import (
    Charged,
    Charging,
    Close,
    Closed,
    Drop,
    Manned,
    New,
    NothingToPay,
    Open,
    Paid,
    Pay,
    Serve,
    desk,
    orders,
)
from tests.store.world import World


def test_each_machine_takes_its_own(world: World) -> None:
    for key in range(50):
        world.store.start(orders, key, New(5))

    answers = world.store.advance_many(orders, [(key, Pay(f"c{key}")) for key in range(50)])

    assert [(a.key, a.seq, type(a.state)) for a in answers] == [(str(key), 1, Charging) for key in range(50)]
    assert all(isinstance(world.store.get(orders, key).state, Charging) for key in range(50))
    charges = world.store.actions(machine="orders", action="Charge")
    assert sorted(a.payload["card"] for a in charges) == sorted(f"c{key}" for key in range(50))


def test_one_machine_keeps_the_order_of_its_events(world: World) -> None:
    world.store.start(orders, 7, New(5))

    answers = world.store.advance_many(orders, [(7, Pay()), (7, Charged("r1"))])

    assert [(a.seq, type(a.state)) for a in answers] == [(1, Charging), (2, Paid)]
    assert [e.name for e in world.store.history(orders, 7)] == ["New", "Pay", "Charged"]


def test_what_is_refused_is_answered_and_holds_nobody_back(world: World) -> None:
    world.store.start(orders, "poor", New(0))
    world.store.start(orders, "rich", New(5))

    answers = world.store.advance_many(
        orders,
        [("poor", Pay()), ("nobody", Pay()), ("rich", Charged("r")), ("rich", Pay()), ("poor", Drop())],
    )

    assert [type(a) for a in answers[:3]] == [NothingToPay, MachineNotFound, UnhandledEvent]
    assert isinstance(answers[0], Rejected)
    assert (answers[3].key, answers[3].seq) == ("rich", 1)
    assert (answers[4].key, answers[4].seq) == ("poor", 1)


def test_bad_input_changes_nothing_at_all(world: World) -> None:
    world.store.start(orders, 7, New(5))
    before = world.contents()

    with pytest.raises(UnknownType):
        world.store.advance_many(orders, [(7, Pay()), (7, Serve("ann"))])
    with pytest.raises(InvalidKey):
        world.store.advance_many(orders, [(7, Pay()), ("a\0b", Pay())])

    assert world.contents() == before
    assert world.store.advance_many(orders, []) == []


def test_held_events_are_offered_and_held_by_the_group_too(world: World) -> None:
    for key in ("a", "b"):
        world.store.start(desk, key)
    world.store.advance(desk, "a", Serve("ann"))

    held, opened, closed = world.store.advance_many(
        desk, [("b", Serve("bob")), ("a", Open()), ("a", Close())]
    )

    assert (held.held, opened.seq, opened.state) == (True, 1, Manned())
    assert world.store.record(desk, "b").held == 1
    assert world.store.get(desk, "a").state == Closed(("ann",))
    assert [e.name for e in world.store.history(desk, "a")] == ["Closed", "Open", "Serve", "Close"]
    assert closed.seq == 3


def test_what_bears_children_is_done_as_well(world: World) -> None:
    for key in ("t", "u"):
        world.store.start(trip, key)

    answers = world.store.advance_many(trip, [("t", Book(("rome",))), ("u", Book(("oslo",)))])

    assert [a.seq for a in answers] == [1, 1]
    answers = world.store.advance_many(leg, [("t-rome", Confirm(1)), ("u-oslo", Confirm(2))])
    assert [str(a.status) for a in answers] == ["done", "done"]


def test_an_older_version_is_read_by_the_group(make_world: MakeWorld) -> None:
    from tests.store.conformance.test_versions import V1, V2, first, second

    make_world().store.start(first(), "a")
    make_world().store.start(first(), "b", V1.Idle("Bob Ross"))
    new = second()

    answers = make_world(machines=(new,)).store.advance_many(
        new, [("a", V2.Pay(1, "GBP")), ("b", V2.Pay(2, "EUR"))]
    )

    assert [(a.version, a.state) for a in answers] == [(2, V2.Billing(1, "GBP")), (2, V2.Billing(2, "EUR"))]
