"""All older rows in the present shape at once: `store.upcast`, and what it leaves alone."""

from typing import Any

import pytest

from fsm_core import Machine, MachineStatus, To
from fsm_core.audit import fsck
from fsm_core.delivery.upcasting import Unread, Upcast
from fsm_core.registry import Registry
from tests.store.conformance.conftest import MakeWorld
from tests.store.conformance.test_versions import V1, V2, Paid, first, second
from tests.store.courier import deliver
from tests.store.world import World


def written_by_the_old(make_world: MakeWorld) -> tuple[Machine[Any, Any, Any], World]:
    """Three machines of version 1: one that begins, one with an action and timers, one that has ended."""
    old = first()
    world = make_world()
    for key in ("a", "b", "c"):
        world.store.start(old, key)
    world.store.advance(old, "a", V1.Note("early"))
    world.store.advance(old, "b", V1.Pay(5))
    world.store.advance(old, "c", V1.Pay(5))
    world.store.advance(old, "c", Paid("r"))
    return old, world


def shapes(world: World) -> dict[str, tuple[int, str]]:
    return {row["key"]: (row["version"], row["state_name"]) for row in world.contents()["machines"]}


def test_live_machines_are_written_in_the_present_shape(make_world: MakeWorld) -> None:
    """No event is recorded; what has ended stays as it ended."""
    written_by_the_old(make_world)
    new = second()
    world = make_world(machines=(new,))
    events = world.contents()["events"]
    told: list[int] = []

    done = world.store.upcast(new, progress=told.append)

    assert (done, told) == (Upcast(looked=3, older=2, written=2), [3])
    assert shapes(world) == {"a": (2, "Idle"), "b": (2, "Billing"), "c": (1, "Over")}
    assert world.contents()["events"] == events
    assert world.store.get(new, "a").state == V2.Idle("Ada", "Byron")
    assert world.store.upcast(new) == Upcast(looked=3)


def test_the_log_replays_from_there_and_agrees_with_the_record(make_world: MakeWorld) -> None:
    """Also where a replay by the present code begins in the middle: the older one's code is not here."""
    written_by_the_old(make_world)
    new = second()
    world = make_world(machines=(new,))
    world.store.upcast(new)
    world.store.advance(new, "a", V2.Pay(7, "GBP"))
    world.store.advance(new, "b", V2.Remark("late"))

    for key in ("a", "b"):
        assert fsck(world.store.log(new, key), Registry([new])).findings == []
    assert world.store.state_at(new, "b", 1).state == V2.Billing(5, "EUR")
    assert world.store.state_at(new, "b", 2).state == V2.Billing(5, "EUR", ("late",))


def test_what_the_old_version_left_open_works_afterwards(make_world: MakeWorld) -> None:
    """A held event, a timer, and the timeout of a state that has another name now."""
    _, before = written_by_the_old(make_world)
    new = second()
    world = make_world(machines=(new,))
    world.store.upcast(new)
    timers = [a["timer"] for a in world.contents()["actions"] if str(a["status"]) == "pending"]
    assert [name for name in timers if name] == ["hurry", "state:Billing"]

    before.change_actions(1, run_at=world.store.get(new, "b").created_at)
    deliver(world, new)
    assert world.store.get(new, "b").state == V2.Billing(5, "EUR", ("hurry",))

    world.change_actions(2, run_at=world.store.get(new, "b").created_at)
    deliver(world, new)
    assert world.store.get(new, "b").status is MachineStatus.DONE
    world.store.advance(new, "a", V2.Pay(5, "GBP"))
    assert world.store.get(new, "a").state == V2.Billing(5, "GBP", ("early",))


def test_a_dry_run_writes_nothing_and_counts_the_same(make_world: MakeWorld) -> None:
    written_by_the_old(make_world)
    new = second()
    world = make_world(machines=(new,))
    before = world.contents()

    assert world.store.upcast(new, dry_run=True) == Upcast(looked=3, older=2, written=2)

    assert world.contents() == before


def test_a_version_that_is_registered_finishes_on_its_own_code(make_world: MakeWorld) -> None:
    old, _ = written_by_the_old(make_world)
    new = second()
    world = make_world(machines=(old, new))

    assert world.store.upcast(new) == Upcast(looked=3)
    assert shapes(world)["a"] == (1, "Idle")
    assert world.store.upcast(new, every=True) == Upcast(looked=3, older=2, written=2)
    assert shapes(world)["a"] == (2, "Idle")


def deaf() -> Machine[Any, Any, Any]:
    """A second version that forgot half of what the first one wrote."""
    till = Machine(
        "till",
        states=V2.Idle | V2.Billing | V2.Over,
        events=V2.Pay | Paid,
        actions=V2.Bill,
        final=V2.Over,
        version=2,
    )

    @till.on
    def pay(_state: V2.Idle, event: V2.Pay) -> To[V2.Billing, V2.Bill]:
        return V2.Billing(event.cents, event.currency), [V2.Bill(event.cents, event.currency)]

    @till.on
    def paid(_state: V2.Billing, _event: Paid) -> V2.Over:
        return V2.Over()

    @till.upcast(1, "Idle")
    def idle(old: V1.Idle) -> V2.Idle:
        return V2.Idle(*old.name.split(" ", 1))

    @till.upcast(1, "Charging")
    def charging(old: V1.Charging) -> V2.Billing:
        return V2.Billing(old.cents, "EUR")

    return till


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_cannot_be_read_is_named_and_left_as_it_was(make_world: MakeWorld, dry_run: bool) -> None:
    """State, held events and open actions alike: of a machine that would be stuck later, nothing is written now."""
    old, before = written_by_the_old(make_world)
    before.store.start(old, "d", V1.Idle("Plato"))
    before.store.start(old, "e")
    new = deaf()
    world = make_world(machines=(new,))

    done = world.store.upcast(new, dry_run=dry_run)

    assert (done.older, done.written, done.unreadable, done.whole) == (4, 1, 3, False)
    assert [(u.key, u.role, u.name, u.version) for u in done.unread] == [
        ("a", "event", "Note", 1),
        ("b", "action", "Charge", 1),
        ("b", "action", "After", 1),
        ("b", "action", "Timeout", 1),
        ("d", "state", "Idle", 1),
    ]
    assert "could not be upcast by" in done.unread[-1].error
    assert shapes(world) == {
        "a": (1, "Idle"),
        "b": (1, "Charging"),
        "c": (1, "Over"),
        "d": (1, "Idle"),
        "e": (1 if dry_run else 2, "Idle"),
    }


def test_a_dry_run_also_looks_at_what_is_in_the_present_shape(make_world: MakeWorld) -> None:
    """May the upcasters go? Events that are held and actions that are open keep the shape that they were written in."""
    old, before = written_by_the_old(make_world)
    before.store.signal(old, "unborn", V1.Note("soon"))
    new = second()
    assert make_world(machines=(new,)).store.upcast(new).whole
    bare = Machine(
        "till", states=V2.Idle | V2.Billing | V2.Over, events=V2.Pay | Paid, actions=V2.Bill, version=2
    )
    world = make_world(machines=(bare,))

    done = world.store.upcast(bare, dry_run=True)

    assert (done.older, done.written, done.unreadable) == (0, 0, 3)
    assert [(u.key, u.role, u.name) for u in done.unread] == [
        ("a", "event", "Note"),
        ("b", "action", "Charge"),
        ("b", "action", "After"),
        ("b", "action", "Timeout"),
        ("unborn", "event", "Note"),
    ]
    assert world.store.upcast(bare).whole


def test_a_version_that_nobody_reaches_back_to_is_named(make_world: MakeWorld) -> None:
    written_by_the_old(make_world)
    plain = Machine("till", states=V2.Over, events=Paid, version=2)

    done = make_world(machines=(plain,)).store.upcast(plain)

    assert (done.written, done.unreadable) == (0, 2)
    said = "no machine 'till' version 1 is registered here (registered: till v2)"
    assert done.unread[0] == Unread("till", "a", "state", "Idle", 1, said)


def test_an_upcast_state_that_breaks_an_invariant_is_not_written(make_world: MakeWorld) -> None:
    written_by_the_old(make_world)
    new = second()

    @new.invariant
    def in_pounds(state: V2.Billing) -> bool:
        return state.currency == "GBP"

    world = make_world(machines=(new,))
    done = world.store.upcast(new)

    assert (done.written, [u.key for u in done.unread]) == (1, ["b"])
    assert "in_pounds" in done.unread[0].error
    assert shapes(world)["b"] == (1, "Charging")


def test_before_the_first_version_there_is_none(make_world: MakeWorld) -> None:
    old, world = written_by_the_old(make_world)

    assert world.store.upcast(old) == Upcast()
