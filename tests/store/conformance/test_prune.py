"""`prune`: the details of what ended long ago go, and what is still needed of it stays; later, everything goes."""

from datetime import timedelta
from typing import Any

import pytest

from examples.door import Close, Open, door
from fsm_core import ActionStatus
from fsm_core.audit import fsck
from fsm_core.delivery.retention import KEEP_ALL, Pruned, Retention
from fsm_core.errors import EventNotFound, MachineNotFound
from fsm_core.registry import Registry
from tests.store.aging import finish, grow_old
from tests.store.courier import deliver
from tests.store.family import Book, leg, trip
from tests.store.machines import Drop, Dropped, Manned, New, Note, Serve, desk, orders
from tests.store.machines import Open as OpenDesk
from tests.store.world import World

MONTH = timedelta(days=30)
YEAR = timedelta(days=365)
DETAILS, BOTH = Retention(MONTH), Retention(MONTH, YEAR)


def over(world: World, key: Any = 7, *, rest: bool = True) -> None:
    """An order with four actions of two notes, of which two have failed; then it was dropped."""
    world.store.start(orders, key, New(1))
    world.store.advance(orders, key, Note("a"), dedup_key="evt-1")
    world.store.advance(orders, key, Note("b"))
    world.store.advance(orders, key, Drop())
    if rest:
        finish(world)
        finish(world, 1, status="failed", error='{"message": "no"}')


def findings(world: World, machine: Any, key: Any) -> list[Any]:
    return fsck(world.store.log(machine, key), Registry([orders, trip, leg, door, desk])).findings


def numbers(world: World, machine: Any, key: Any) -> list[int]:
    return [entry.seq for entry in world.store.history(machine, key)]


# Ended machines


def test_the_details_of_an_ended_machine_go_and_what_is_needed_stays(world: World) -> None:
    """Its state, its last event, its last failure; a late webhook is a duplicate, and its key cannot be started again."""
    over(world)
    now = world.store.get(orders, 7)
    grow_old(world, 40)
    before = world.store.get(orders, 7)

    done = world.store.prune(DETAILS)

    assert done == Pruned(machines=1, events=3, actions=3)
    assert world.store.get(orders, 7) == before
    assert (before.state, before.seq, before.id) == (Dropped("by hand"), 3, now.id)
    assert numbers(world, orders, 7) == [3]
    (failure,) = world.store.actions()
    assert (failure.id.seq, failure.id.idx, failure.status, failure.error) == (
        2,
        1,
        ActionStatus.FAILED,
        "no",
    )
    late = world.store.advance(orders, 7, Note("a"), dedup_key="evt-1")
    assert (late.duplicate, late.seq) == (True, 1)
    assert world.store.start(orders, 7, New(2)).duplicate
    assert findings(world, orders, 7) == []


def test_the_past_of_a_pruned_machine_begins_at_its_end(world: World) -> None:
    over(world)
    grow_old(world, 40)
    world.store.prune(DETAILS)

    assert world.store.state_at(orders, 7, 3).state == Dropped("by hand")
    with pytest.raises(EventNotFound):
        world.store.state_at(orders, 7, 2)


def test_what_has_been_pruned_is_not_pruned_again(world: World) -> None:
    over(world)
    grow_old(world, 40)
    world.store.prune(DETAILS)
    before = world.contents()

    assert world.store.prune(DETAILS) == Pruned()
    assert world.contents() == before


@pytest.mark.parametrize("why", ["young", "open actions", "alive", "kept for ever"])
def test_what_is_not_over_is_kept(world: World, why: str) -> None:
    """It ended only now, or has open actions, or lives, or nothing says how long it is kept."""
    if why == "alive":
        world.store.start(orders, 7, New(1))
        world.store.advance(orders, 7, Note())
        finish(world)
    else:
        over(world, rest=why != "open actions")
    grow_old(world, 20 if why == "young" else 400)
    before = world.contents()

    assert world.store.prune(KEEP_ALL if why == "kept for ever" else BOTH) == Pruned()
    assert world.contents() == before


def test_a_cancelled_machine_is_pruned_like_any_other(world: World) -> None:
    world.store.start(orders, 7, New(1))
    world.store.advance(orders, 7, Note())
    world.store.cancel(orders, 7)
    grow_old(world, 40)

    assert world.store.prune(DETAILS) == Pruned(machines=1, events=1)
    assert (world.store.get(orders, 7).status, world.store.get(orders, 7).state) == ("cancelled", New(1))
    assert findings(world, orders, 7) == []


def test_one_that_ended_at_its_birth_has_nothing_to_prune(world: World) -> None:
    world.store.start(orders, 7, Dropped("at once"))
    grow_old(world, 40)

    assert world.store.prune(DETAILS) == Pruned(machines=1)
    assert findings(world, orders, 7) == []


def test_after_the_longer_time_everything_goes_and_the_key_is_free(world: World) -> None:
    """Also of one whose details had not been pruned before."""
    over(world)
    grow_old(world, 400)

    done = world.store.prune(BOTH)

    assert (done.machines, done.forgotten, done.events, done.actions) == (1, 1, 4, 4)
    assert {table: rows for table, rows in world.contents().items() if rows} == {}
    with pytest.raises(MachineNotFound):
        world.store.get(orders, 7)
    assert not world.store.start(orders, 7, New(2)).duplicate


def test_only_the_longer_time_may_be_given(world: World) -> None:
    """Then details are kept as long as the machine is."""
    over(world)
    grow_old(world, 40)
    assert world.store.prune(Retention(whole=YEAR)) == Pruned()
    grow_old(world, 400)
    assert world.store.prune(Retention(whole=YEAR)).forgotten == 1


def test_a_parent_is_kept_for_its_children(world: World) -> None:
    """They name it; when they have been pruned, it goes."""
    world.store.start(trip, "t")
    world.store.advance(trip, "t", Book(("rome",)))
    world.store.cancel(trip, "t")
    finish(world)
    grow_old(world, 400)

    assert (world.store.prune(BOTH).forgotten, world.store.get(trip, "t").status) == (0, "cancelled")
    world.store.cancel(leg, "t-rome")
    deliver(world, trip, leg)
    assert world.store.prune(BOTH).forgotten == 0
    grow_old(world, 400)
    assert world.store.prune(BOTH).forgotten == 2


# Machines that live


def test_the_log_of_a_quiet_machine_is_cut_at_its_last_event(world: World) -> None:
    """A replay begins there; what came before is gone, and says so."""
    world.store.start(door, "front")
    for event in (Close(), Open(), Close()):
        world.store.advance(door, "front", event)
    finish(world)
    grow_old(world, 40)

    assert world.store.prune(DETAILS) == Pruned()
    done = world.store.prune(DETAILS, live=True)

    assert (done.cut, done.events, done.machines) == (1, 3, 0)
    assert {a.id.seq for a in world.store.actions()} == {3}
    assert world.store.prune(DETAILS, live=True) == Pruned()
    with pytest.raises(EventNotFound):
        world.store.state_at(door, "front", 1)
    world.store.advance(door, "front", Open())
    assert world.store.state_at(door, "front", 4).state == world.store.get(door, "front").state
    assert numbers(world, door, "front") == [3, 4]
    assert findings(world, door, "front") == []


def test_the_log_of_a_busy_machine_is_cut_only_where_a_replay_can_begin(world: World) -> None:
    """First a snapshot is written; when that is old, the log is cut there. Whatever is in the log replays at any time."""
    world.store.start(door, "front")
    world.store.advance(door, "front", Close())
    grow_old(world, 40)
    world.store.advance(door, "front", Open())

    def replays() -> list[int]:
        assert findings(world, door, "front") == []
        kept = numbers(world, door, "front")
        return [world.store.state_at(door, "front", seq).seq for seq in kept]

    assert world.store.prune(DETAILS, live=True) == Pruned()
    assert replays() == [0, 1, 2]

    grow_old(world, 40)
    world.store.advance(door, "front", Close())
    finish(world)
    grow_old(world, 1)

    assert world.store.prune(DETAILS, live=True).events == 2
    assert replays() == [2, 3]
    assert world.store.prune(DETAILS, live=True) == Pruned()


def test_open_and_failed_actions_of_a_machine_that_lives_stay(world: World) -> None:
    world.store.start(orders, 7, New(1))
    for _ in range(3):
        world.store.advance(orders, 7, Note())
    finish(world, 0, status="failed", error='{"message": "no"}')
    grow_old(world, 40)

    assert world.store.prune(DETAILS, live=True) == Pruned(cut=1, events=3)
    assert sorted(a.status for a in world.store.actions()) == ["failed"] * 3 + ["pending"] * 3
    assert findings(world, orders, 7) == []


# Held events


def test_a_signal_that_nobody_took_in_time_goes_with_the_machine_that_it_waited_for(world: World) -> None:
    world.store.signal(desk, "d", Serve("ann"), ttl=timedelta(days=1), dedup_key="evt-1")
    before = world.contents()
    assert world.store.prune(KEEP_ALL) == Pruned()
    assert world.contents() == before
    grow_old(world, 2)

    assert world.store.prune(KEEP_ALL) == Pruned(held=1, unborn=1)
    assert {table: rows for table, rows in world.contents().items() if rows} == {}


def test_an_unborn_machine_stays_as_long_as_something_waits_for_it(world: World) -> None:
    world.store.signal(desk, "d", Serve("ann"), ttl=timedelta(days=1))
    world.store.signal(desk, "d", Serve("bob"), ttl=timedelta(days=5))
    grow_old(world, 2)

    assert world.store.prune(KEEP_ALL) == Pruned(held=1)
    assert len(world.contents()["inbox"]) == 1
    world.store.start(desk, "d")
    world.store.advance(desk, "d", OpenDesk())
    assert world.store.get(desk, "d").state == Manned(("bob",))


def test_what_expires_in_a_machine_that_lives_is_no_event(world: World) -> None:
    world.store.start(desk, "d")
    world.store.signal(desk, "d", Serve("ann"), ttl=timedelta(days=1))
    world.store.signal(desk, "d", Serve("bob"))
    grow_old(world, 2)

    assert world.store.prune(KEEP_ALL) == Pruned(held=1)
    assert (world.store.record(desk, "d").held, numbers(world, desk, "d")) == (1, [0])
    assert findings(world, desk, "d") == []


def test_a_dry_run_counts_and_deletes_nothing(world: World) -> None:
    over(world, 7)
    over(world, 8)
    world.store.start(door, "front")
    world.store.advance(door, "front", Close())
    world.store.signal(desk, "d", Serve("ann"), ttl=timedelta(days=1))
    finish(world)
    grow_old(world, 400)
    over(world, 9)
    before = world.contents()

    assert world.store.prune(BOTH, live=True, dry_run=True) == Pruned(machines=2, forgotten=2, cut=1, held=1)
    assert world.contents() == before
