"""A signal is an event that is never too early: it waits until an edge takes it, also before the machine exists."""

from datetime import timedelta

import pytest

from fsm_core import Failed, MachineStatus, Rejected
from fsm_core.errors import (
    ConfigurationError,
    DedupMismatch,
    InboxFull,
    MachineEnded,
    MachineNotFound,
    UnhandledEvent,
    UnknownType,
)
from tests.store.machines import (
    Charge,
    Charged,
    Charging,
    Close,
    Closed,
    Drop,
    Manned,
    New,
    Open,
    Over,
    Paid,
    Pay,
    Retire,
    Serve,
    desk,
    orders,
)
from tests.store.world import World


def names(world: World, machine: object, key: object) -> list[str]:
    return [entry.name for entry in world.store.history(machine, key)]


def test_an_event_that_an_edge_takes_is_applied_at_once(world: World) -> None:
    world.store.start(orders, 7, New(5))

    receipt = world.store.signal(orders, 7, Pay())

    assert (receipt.seq, receipt.held, receipt.duplicate, receipt.unborn) == (1, False, False, False)
    assert isinstance(world.store.get(orders, 7).state, Charging)


def test_one_that_no_edge_takes_yet_is_held_by_any_machine(world: World) -> None:
    """Its policy for unhandled events is for `advance`: this one rejects."""
    world.store.start(orders, 7, New(5))
    with pytest.raises(UnhandledEvent):
        world.store.advance(orders, 7, Charged("r1"))

    receipt = world.store.signal(orders, 7, Charged("r1"))

    assert (receipt.seq, receipt.held, receipt.id) == (None, True, world.store.get(orders, 7).id)
    assert names(world, orders, 7) == ["New"]
    world.store.advance(orders, 7, Pay())
    assert world.store.get(orders, 7).state == Paid("r1")
    assert names(world, orders, 7) == ["New", "Pay", "Charged"]


def test_one_that_its_transition_refuses_is_refused(world: World) -> None:
    world.store.start(orders, 7, New(0))
    before = world.contents()

    with pytest.raises(Rejected):
        world.store.signal(orders, 7, Pay())

    assert world.contents() == before


def test_a_machine_that_does_not_exist_yet_is_born_with_what_waits_for_it(world: World) -> None:
    first = world.store.signal(desk, "d", Open())
    second = world.store.signal(desk, "d", Serve("ann"))
    assert (first.unborn, first.held, second.id) == (True, True, first.id)
    with pytest.raises(MachineNotFound):
        world.store.get(desk, "d")
    with pytest.raises(MachineNotFound):
        world.store.advance(desk, "d", Open())

    born = world.store.start(desk, "d")

    assert (born.id, born.seq, born.state, born.duplicate) == (first.id, 0, Closed(), False)
    now = world.store.get(desk, "d")
    assert (now.state, now.seq, now.status) == (Manned(("ann",)), 2, MachineStatus.LIVE)
    assert names(world, desk, "d") == ["Closed", "Open", "Serve"]
    assert world.store.record(desk, "d").held == 0
    assert world.store.start(desk, "d").duplicate


def test_what_nobody_takes_at_the_birth_waits_on(world: World) -> None:
    world.store.signal(desk, "d", Close())

    world.store.start(desk, "d")
    assert (world.store.get(desk, "d").seq, world.store.record(desk, "d").held) == (0, 1)

    world.store.advance(desk, "d", Open())
    assert names(world, desk, "d") == ["Closed", "Open", "Close"]


def test_a_birth_that_is_refused_leaves_the_signals_where_they_are(world: World) -> None:
    world.store.signal(orders, 7, Pay())
    before = world.contents()

    with pytest.raises(UnknownType):
        world.store.start(orders, 7, Manned())

    assert world.contents() == before
    world.store.start(orders, 7, New(5))
    assert isinstance(world.store.get(orders, 7).state, Charging)


def test_a_dedup_key_is_remembered_while_it_waits_and_after_it_was_taken(world: World) -> None:
    assert world.store.signal(desk, "d", Serve("ann"), dedup_key="w1").held
    early = world.store.signal(desk, "d", Serve("ann"), dedup_key="w1")
    assert (early.duplicate, early.held, early.unborn) == (True, True, True)
    with pytest.raises(DedupMismatch):
        world.store.signal(desk, "d", Serve("bob"), dedup_key="w1")

    world.store.start(desk, "d")
    waiting = world.store.signal(desk, "d", Serve("ann"), dedup_key="w1")
    assert (waiting.duplicate, waiting.seq, waiting.unborn) == (True, None, False)
    world.store.advance(desk, "d", Open())
    taken = world.store.signal(desk, "d", Serve("ann"), dedup_key="w1")

    assert (taken.duplicate, taken.seq) == (True, 2)
    assert world.store.get(desk, "d").state == Manned(("ann",))
    assert len(world.contents()["dedup"]) == 1


def test_a_machine_that_has_ended_answers(world: World) -> None:
    """It is not lost silently: whoever sends it is told."""
    world.store.start(desk, "d")
    world.store.start(desk, "e")
    world.store.advance(desk, "d", Retire())
    world.store.cancel(desk, "e")
    before = world.contents()

    for key in ("d", "e"):
        with pytest.raises(MachineEnded):
            world.store.signal(desk, key, Serve("ann"))
    assert world.store.get(desk, "d").state == Over()
    assert world.contents() == before


def test_nobody_signals_the_engines_own_events(world: World) -> None:
    world.store.start(orders, 7, New(5))
    before = world.contents()
    for key in (7, 8):
        with pytest.raises(UnknownType):
            world.store.signal(orders, key, Failed(Charge("c", 1)))
        with pytest.raises(UnknownType):
            world.store.signal(orders, key, Serve("ann"))
    assert world.contents() == before


def test_a_full_inbox_refuses(world: World) -> None:
    receipt = world.store.signal(desk, "d", Serve("ann"))
    world.fill_inbox(receipt.id, "Serve", '{"name": "bob"}', 999)

    with pytest.raises(InboxFull):
        world.store.signal(desk, "d", Serve("cid"))


def test_what_has_expired_is_not_offered(world: World) -> None:
    world.store.start(desk, "d")
    world.store.signal(desk, "d", Serve("late"), ttl=timedelta(microseconds=1))
    world.store.signal(desk, "d", Serve("soon"), ttl=timedelta(days=1))
    world.store.signal(desk, "d", Serve("ever"))
    world.pass_time(timedelta(seconds=1))

    world.store.advance(desk, "d", Open())

    assert world.store.get(desk, "d").state == Manned(("soon", "ever"))


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), timedelta(days=100_000)])
def test_a_time_to_live_is_a_time(world: World, ttl: timedelta) -> None:
    with pytest.raises(ConfigurationError, match="ttl"):
        world.store.signal(desk, "d", Serve("ann"), ttl=ttl)


def test_signal_or_start_does_both_or_neither(world: World) -> None:
    first = world.store.signal_or_start(orders, 7, Pay(), New(5))
    assert (first.seq, first.unborn) == (1, False)
    again = world.store.signal_or_start(orders, 7, Drop(), New(9))
    assert again.seq == 2
    assert names(world, orders, 7) == ["New", "Pay", "Drop"]

    before = world.contents()
    with pytest.raises(Rejected):
        world.store.signal_or_start(orders, 8, Pay(), New(0))
    assert world.contents() == before
    with pytest.raises(MachineNotFound):
        world.store.get(orders, 8)


def test_signal_or_start_bears_what_signals_came_before(world: World) -> None:
    world.store.signal(desk, "d", Serve("ann"))

    receipt = world.store.signal_or_start(desk, "d", Open())

    assert receipt.seq == 1
    assert world.store.get(desk, "d").state == Manned(("ann",))
