"""`wait`: the machine when it has ended, however it ends; or the caller's time is over, and nothing has changed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fsm_core import MachineStatus
from fsm_core.errors import FsmError, MachineNotFound, WaitTimeout
from tests.store.courier import deliver
from tests.store.family import Book, Confirm, Going, leg, trip
from tests.store.machines import Drop, Dropped, New, Note, Paid, orders
from tests.store.waits import waiting, waits_for
from tests.store.world import World
from tests.waiting import eventually


def by_an_event(world: World) -> tuple[Any, Any]:
    world.store.advance(orders, 7, Drop())
    return MachineStatus.DONE, Dropped("by hand")


def by_a_cancel(world: World) -> tuple[Any, Any]:
    world.store.cancel(orders, 7)
    return MachineStatus.CANCELLED, New(1)


@pytest.mark.parametrize("end", [by_an_event, by_a_cancel])
def test_who_waits_is_woken_by_the_end(world: World, end: Callable[[World], tuple[Any, Any]]) -> None:
    world.store.start(orders, 7, New(1))
    waiter = waiting(world, orders, 7)

    status, state = end(world)
    now = waiter.result(10)

    assert (now.status, now.state) == (status, state)
    assert now == world.store.get(orders, 7)
    assert now.ended_at is not None


def test_the_end_of_the_last_child_wakes_who_waits_for_the_parent(world: World) -> None:
    """What a worker commits wakes as well: the children's ends are told to the parent, which ends by them."""
    world.store.start(trip, "t")
    world.store.advance(trip, "t", Book(("rome", "oslo")))
    waiter = waiting(world, trip, "t")
    child = waiting(world, leg, "t-rome")

    for place in ("rome", "oslo"):
        world.store.advance(leg, f"t-{place}", Confirm(10))
    assert child.result(10).key == "t-rome"
    deliver(world, trip, leg)

    assert isinstance(waiter.result(10).state, Going)


def test_everybody_who_waits_is_woken_and_nobody_else(world: World) -> None:
    for key in (7, 8):
        world.store.start(orders, key, New(1))
    mine, others, elsewhere = waiting(world, orders, 7), waiting(world, orders, 7), waiting(world, orders, 8)

    world.store.advance(orders, 7, Drop())

    assert mine.result(10) == others.result(10)
    assert not elsewhere.done()
    world.store.advance(orders, 8, Drop())
    assert elsewhere.result(10).key == "8"


def test_an_event_that_is_no_end_wakes_nobody(world: World) -> None:
    world.store.start(orders, 7, New(1))
    waiter = waiting(world, orders, 7)

    world.store.advance(orders, 7, Note())
    assert waits_for(world, world.store.get(orders, 7).id)
    world.store.advance(orders, 7, Drop())

    assert waiter.result(10).seq == 2


def test_what_has_ended_already_is_not_waited_for(world: World) -> None:
    """Also what was born into a final state."""
    world.store.start(orders, 7, New(1))
    world.store.advance(orders, 7, Drop())
    world.store.start(orders, 8, Paid("at once"))

    assert world.store.wait(orders, 7).state == Dropped("by hand")
    assert world.store.wait(orders, 8, timedelta(0)).state == Paid("at once")


@pytest.mark.parametrize("timeout", [0, -1, 0.05, timedelta(milliseconds=50)])
def test_the_callers_time_is_over(world: World, timeout: Any) -> None:
    """A TimeoutError of ours, with the machine as it is now; nothing has changed, and nobody waits any more."""
    world.store.start(orders, 7, New(1))
    before = world.contents()

    with pytest.raises(WaitTimeout) as caught:
        world.store.wait(orders, 7, timeout)

    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, FsmError)
    assert caught.value.snapshot == world.store.get(orders, 7)
    assert str(caught.value).startswith("machine orders/7 has not ended within ")
    assert world.contents() == before
    found = caught.value.snapshot.id
    eventually(lambda: not waits_for(world, found), what="nobody waits")


def test_a_machine_that_does_not_exist_is_not_waited_for(world: World) -> None:
    with pytest.raises(MachineNotFound):
        world.store.wait(orders, 7)
