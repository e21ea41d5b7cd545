"""Machines that bear, tell and cancel each other: all of it in the log of the machine that it concerns, exactly once."""

from datetime import timedelta
from typing import Any

import pytest

from fsm_core import Failed, MachineStatus, Spawn
from fsm_core.errors import ChildExists, MachineNotFound, TransitionError
from tests.store.courier import deliver
from tests.store.family import (
    Book,
    Booked,
    Booking,
    Confirm,
    Count,
    Crack,
    Going,
    Leave,
    Off,
    Open,
    Planning,
    Refuse,
    Say,
    Shell,
    doll,
    leg,
    talker,
    trip,
)
from tests.store.world import World


def booked(world: World, *places: str, need: int = 0) -> None:
    world.store.start(trip, "t")
    world.store.advance(trip, "t", Book(places, need))


def log(world: World, machine: Any, key: str) -> list[tuple[int, str, str]]:
    return [(e.seq, e.name, e.source) for e in world.store.history(machine, key)]


def statuses(world: World, machine: str) -> dict[str, str]:
    return {r.key: str(r.status) for r in world.store.machines(machine)}


def test_children_are_born_with_the_event_that_spawns_them(world: World) -> None:
    """Each with its birth in its own log; the parent's history shows the spawn as done."""
    booked(world, "rome", "oslo")

    assert world.store.get(leg, "t-rome").state == Open("rome")
    assert log(world, leg, "t-oslo") == [(0, "Open", "spawn")]
    spawns = world.store.history(trip, "t")[1].actions
    assert [(a.name, str(a.status), a.payload) for a in spawns if a.name == "Spawn"] == [
        ("Spawn", "completed", {"machine": "leg", "key": "t-rome"}),
        ("Spawn", "completed", {"machine": "leg", "key": "t-oslo"}),
    ]
    parents = {row["key"]: row["parent"] for row in world.contents()["machines"]}
    assert parents["t-rome"] == parents["t-oslo"] == world.store.get(trip, "t").id
    assert parents["t"] is None


def test_a_refused_event_bears_nobody(world: World) -> None:
    """A child that cannot be born takes the whole event with it."""
    world.store.start(trip, "t")
    before = world.contents()

    with pytest.raises(TransitionError, match="twice"):
        world.store.advance(trip, "t", Book(("rome", "oslo"), keys=("a", "a")))

    assert world.contents() == before
    with pytest.raises(MachineNotFound):
        world.store.get(leg, "a")


def test_a_parent_waits_for_all(world: World) -> None:
    """It is told of each end once, by an event that carries the child's final state."""
    booked(world, "rome", "oslo")
    world.store.advance(leg, "t-rome", Confirm(10))
    deliver(world, trip, leg)
    assert isinstance(world.store.get(trip, "t").state, Booking)

    world.store.advance(leg, "t-oslo", Confirm(5))
    deliver(world, trip, leg)

    now = world.store.get(trip, "t")
    assert now.state == Going(15, ("leg/t-rome", "leg/t-oslo"))
    assert now.status is MachineStatus.DONE
    assert log(world, trip, "t")[2:] == [
        (2, "ChildEnded[Booked]", "machine"),
        (3, "ChildEnded[Booked]", "machine"),
    ]
    told = [a for a in world.store.actions(machine="leg") if a.name == "ChildEnded"]
    assert [(str(a.status), a.queue, a.attempt) for a in told] == [("completed", "trips", 0)] * 2


def test_k_of_n_are_enough_and_the_rest_are_cancelled(world: World) -> None:
    """The parent is told of those as well, and has ended: noted, not applied."""
    booked(world, "rome", "oslo", "bern", need=2)
    world.store.advance(leg, "t-rome", Confirm(1))
    world.store.advance(leg, "t-bern", Confirm(2))

    deliver(world, trip, leg)

    assert world.store.get(trip, "t").state == Going(3, ("leg/t-rome", "leg/t-bern"))
    assert statuses(world, "leg") == {"t-rome": "done", "t-bern": "done", "t-oslo": "cancelled"}
    assert world.store.get(trip, "t").seq == 3
    notes = [a.note for a in world.store.actions(machine="leg", key="t-oslo")]
    assert notes == ["ignored: UnhandledEvent: machine 'trip' has no edge for Failed[Spawn] in state Going"]


def test_too_few_is_known_as_soon_as_it_is_certain(world: World) -> None:
    booked(world, "rome", "oslo", "bern", need=2)
    world.store.advance(leg, "t-rome", Refuse())
    world.store.cancel(leg, "t-oslo")

    deliver(world, trip, leg)

    assert world.store.get(trip, "t").state == Off("too few")
    assert statuses(world, "leg") == {"t-rome": "done", "t-oslo": "cancelled", "t-bern": "cancelled"}
    names = {name for _, name, _ in log(world, trip, "t")[2:]}
    assert names == {"ChildEnded[Refused]", "Failed[Spawn]"}


def test_a_deadline_is_the_states_own_timeout(world: World) -> None:
    """The children that are still at it go with it."""
    booked(world, "rome", "oslo")
    world.change_actions(2, run_at=world.store.get(trip, "t").created_at - timedelta(days=1))

    deliver(world, trip, leg)

    assert world.store.get(trip, "t").state == Off("late")
    assert statuses(world, "leg") == {"t-rome": "cancelled", "t-oslo": "cancelled"}


def test_many_ends_in_one_group_are_each_counted_once(world: World) -> None:
    places = tuple(f"p{n}" for n in range(20))
    booked(world, *places)
    for place in places:
        world.store.advance(leg, f"t-{place}", Confirm(1))

    deliver(world, trip, leg)

    state = world.store.get(trip, "t").state
    assert isinstance(state, Going)
    assert state.price == 20
    assert sorted(state.legs) == sorted(f"leg/t-{place}" for place in places)
    assert world.store.get(trip, "t").seq == 21


def test_a_taken_key_is_told_in_the_same_unit(world: World) -> None:
    """The others are born; the spawn that failed says so."""
    world.store.start(leg, "mine", Open("here"))
    world.store.start(trip, "t")

    now = world.store.advance(trip, "t", Book(("rome", "oslo"), need=1, keys=("mine", "new")))

    assert now.seq == 1
    after = world.store.get(trip, "t")
    assert (after.seq, after.state.join.open, after.state.join.failed) == (2, ("leg/new",), ("leg/mine",))
    entry = world.store.history(trip, "t")[2]
    assert (entry.name, entry.payload["action"]) == ("Failed[Spawn]", {"machine": "leg", "key": "mine"})
    assert world.store.get(leg, "mine").state == Open("here")
    assert world.store.get(leg, "new").state == Open("oslo")
    spawns = {
        a.payload["key"]: (str(a.status), a.error)
        for a in world.store.actions(machine="trip", action="Spawn")
    }
    assert spawns == {"mine": ("failed", "the key is taken"), "new": ("completed", None)}


def test_a_taken_key_is_an_error_where_nobody_can_be_told(world: World) -> None:
    world.store.start(doll, "d.", Shell(0))
    before = world.contents()

    with pytest.raises(ChildExists) as caught:
        world.store.start(doll, "d", Shell(1))

    assert (caught.value.name, caught.value.key) == ("doll", "d.")
    assert world.contents() == before


def test_generations_are_born_at_once_and_are_cancelled_together(world: World) -> None:
    world.store.start(doll, "d", Shell(3))
    assert [r.key for r in sorted(world.store.machines("doll"), key=lambda r: r.key)] == [
        "d",
        "d.",
        "d..",
        "d...",
    ]

    world.store.cancel(doll, "d", "enough")
    deliver(world, doll)

    assert set(statuses(world, "doll").values()) == {"cancelled"}


def test_a_machine_that_bears_itself_for_ever_is_refused(world: World) -> None:
    before = world.contents()

    with pytest.raises(TransitionError, match="generations"):
        world.store.start(doll, "d", Shell(100))

    assert world.contents() == before


def test_a_child_lives_on_when_its_parent_reaches_a_final_state(world: World) -> None:
    """Only a cancel goes down by itself."""
    world.store.start(doll, "d", Shell(1))

    world.store.advance(doll, "d", Crack())
    deliver(world, doll)

    assert statuses(world, "doll") == {"d": "done", "d.": "live"}
    world.store.advance(doll, "d.", Crack())
    deliver(world, doll)
    assert statuses(world, "doll") == {"d": "done", "d.": "done"}


@pytest.mark.parametrize("by_name", [False, True])
def test_an_event_reaches_another_machine(world: World, by_name: bool) -> None:
    for key in ("a", "b"):
        world.store.start(talker, key)

    world.store.advance(talker, "a", Say("hello", "b", by_name))
    assert world.store.get(talker, "b").seq == 0
    deliver(world, talker)

    assert world.store.get(talker, "b").state == Count(("hello",))
    (send,) = world.store.actions(machine="talker", key="a")
    assert (send.name, str(send.status), send.note) == ("Send", "completed", None)
    entry = world.store.history(talker, "b")[1]
    assert (entry.name, entry.source, entry.payload) == ("Hear", "machine", {"text": "hello"})


def test_a_machine_may_send_to_itself(world: World) -> None:
    world.store.start(talker, "a")

    world.store.advance(talker, "a", Say("hm", "a"))
    deliver(world, talker)

    assert world.store.get(talker, "a").state == Count(("hm",))


def test_a_message_to_nobody_waits_until_somebody_is_there(world: World) -> None:
    world.store.start(talker, "a")
    world.store.advance(talker, "a", Say("hello", "b"))

    deliver(world, talker)
    (send,) = world.store.actions(machine="talker", key="a")
    assert (str(send.status), send.note) == ("pending", "there is no machine talker/b yet")
    assert send.run_at > send.created_at

    world.store.start(talker, "b")
    world.change_actions(0, run_at=send.created_at)
    deliver(world, talker)
    assert world.store.get(talker, "b").state == Count(("hello",))


def test_a_message_to_nobody_fails_after_a_day_and_can_be_retried(world: World) -> None:
    started = world.store.start(talker, "a")
    world.store.advance(talker, "a", Say("hello", "b"))
    world.change_actions(0, created_at=started.created_at - timedelta(days=2))

    deliver(world, talker)
    (send,) = world.store.actions(machine="talker", key="a")
    assert (str(send.status), send.error) == ("failed", "there is no machine talker/b")

    world.store.start(talker, "b")
    assert world.store.retry([send.id]) == [send.id]
    deliver(world, talker)
    assert world.store.get(talker, "b").state == Count(("hello",))


def test_a_message_that_is_refused_says_why(world: World) -> None:
    for key in ("a", "b"):
        world.store.start(talker, key)
    world.store.advance(talker, "b", Leave())
    ended = world.store.record(talker, "b")

    world.store.advance(talker, "a", Say("hello", "b"))
    deliver(world, talker)

    (send,) = world.store.actions(machine="talker", key="a")
    assert str(send.status) == "completed"
    assert send.note.startswith("ignored: UnhandledEvent")
    assert world.store.record(talker, "b") == ended
    assert len(world.store.history(talker, "b")) == 2


def test_cancelling_a_machine_takes_its_messages_along(world: World) -> None:
    for key in ("a", "b"):
        world.store.start(talker, key)
    world.store.advance(talker, "a", Say("hello", "b"))

    world.store.cancel(talker, "a")
    deliver(world, talker)

    assert world.store.get(talker, "b").state == Count()


def test_nobody_sends_the_engines_own_events(world: World) -> None:
    from fsm_core import ChildEnded
    from fsm_core.errors import UnknownType

    world.store.start(trip, "t")
    before = world.contents()
    for event in (ChildEnded("leg", "x", Booked("rome", 1)), Failed(Spawn("leg", "x"), "no")):
        with pytest.raises(UnknownType):
            world.store.advance(trip, "t", event)
    assert world.contents() == before
    assert world.store.get(trip, "t").state == Planning()


def test_a_dedup_key_covers_the_children_too(world: World) -> None:
    world.store.start(trip, "t")
    first = world.store.advance(trip, "t", Book(("rome",)), dedup_key="w1")

    again = world.store.advance(trip, "t", Book(("rome",)), dedup_key="w1")

    assert (first.duplicate, again.duplicate, again.seq) == (False, True, 1)
    assert len(world.store.machines("leg")) == 1


def test_ids_of_children_are_derived(world: World) -> None:
    """Deciding again bears the same child: the id tells of its parent, its event and its place."""
    from fsm_core.births import child_id
    from fsm_core.types import ActionId

    booked(world, "rome")
    parent, child = world.store.get(trip, "t"), world.store.get(leg, "t-rome")
    assert child.id == child_id(ActionId(parent.id, 1, 0), child.created_at)
    assert child.id.version == 7


def test_who_delivers_a_message_must_know_its_target_and_nobody_else(world: World) -> None:
    """A child's end is its parent's to hear: a process that knows the parent alone can deliver it, one that knows the child not."""
    booked(world, "rome")
    world.store.advance(leg, "t-rome", Confirm(5))

    deliver(world, leg)
    assert isinstance(world.store.get(trip, "t").state, Booking)
    world.change_actions(0, run_at=world.store.get(trip, "t").created_at)
    deliver(world, trip)

    assert world.store.get(trip, "t").state == Going(5, ("leg/t-rome",))


def test_a_cancel_goes_by_the_queue_of_the_parent_whatever_became_of_its_rows(world: World) -> None:
    """Rows that have finished may be pruned; the children still know where their parent listens."""
    booked(world, "rome")
    world.change_actions(0, queue="elsewhere")

    world.store.cancel(trip, "t")

    (row,) = [a for a in world.contents()["actions"] if a["name"] == "CancelChildren"]
    assert row["queue"] == "trips"
