"""Looking back and ahead: the state after an event, what differs between two, what an event would do."""

from typing import Any

import pytest

from examples.door import SEVEN, Close, Closed, Lock, Locked, NotifyIRC, Opened, Unlock, door
from fsm_core import Failed, UnhandledEvent, replay
from fsm_core.audit import FieldChange
from fsm_core.errors import (
    EventNotFound,
    InvalidPayload,
    MachineEnded,
    MachineNotFound,
    ReplayFailed,
    UnknownMachine,
    UnknownType,
)
from tests.audit.fetching import Busy, Fetch, Go, Got, Idle, Item, Nag, Over, Stop, build, fetching
from tests.store.conformance.conftest import MakeWorld
from tests.store.machines import (
    Charge,
    Charging,
    Manned,
    New,
    Note,
    NothingToPay,
    Open,
    Pay,
    Serve,
    desk,
    orders,
)
from tests.store.world import World


def test_the_state_after_each_event_is_what_its_own_call_answered(world: World) -> None:
    """Down to time, context and status; looking writes nothing."""
    answers = [world.store.start(orders, 7, New(42))]
    answers += [world.store.advance(orders, 7, event) for event in (Note("a"), Pay("visa"))]
    before = world.contents()

    assert [world.store.state_at(orders, 7, seq) for seq in range(3)] == answers
    assert world.contents() == before


def test_the_last_state_is_the_present_one_also_at_the_end(world: World) -> None:
    """A final state has its status and its end."""
    world.store.start(fetching, "a")
    for event in (Go("x"), Go("y", 2.5), Got("x"), Stop()):
        world.store.advance(fetching, "a", event)

    assert world.store.state_at(fetching, "a", 4) == world.store.get(fetching, "a")
    assert world.store.state_at(fetching, "a", 4).status == "done"
    assert world.store.state_at(fetching, "a", 3).state == Busy((Item("y", 2.5),), 1.0)
    assert world.store.state_at(fetching, "a", 3).ended_at is None


def test_a_machine_ended_from_outside_was_alive_at_its_last_event(world: World) -> None:
    """That end is no event of the log."""
    world.store.start(door, "front")
    world.store.cancel(door, "front")

    then = world.store.state_at(door, "front", 0)

    assert (then.state, then.status, then.ended_at) == (Opened(), "live", None)


def test_ignored_and_refused_events_change_nothing(world: World) -> None:
    """What the log says of an event that was held and then refused is kept to."""
    world.store.start(desk, 1)
    for event in (Serve("rude"), Serve("ann"), Open()):
        world.store.advance(desk, 1, event)
    world.store.start(door, "front")
    world.store.advance(door, "front", Unlock(1))

    assert [world.store.state_at(desk, 1, seq).state for seq in (1, 2, 3)] == [
        Manned(), Manned(), Manned(("ann",)),
    ]  # fmt: skip
    assert world.store.state_at(door, "front", 1).state == Opened()


@pytest.mark.parametrize("seq", [-1, 2, 2**31])
def test_an_event_that_is_not_in_the_log_is_named(world: World, seq: int) -> None:
    """So is the last one that is."""
    world.store.start(door, "front")
    world.store.advance(door, "front", Close())

    with pytest.raises(EventNotFound, match=rf"machine door/front has no event {seq} in its log") as caught:
        world.store.state_at(door, "front", seq)

    assert (caught.value.seq, caught.value.last) == (seq, 1)


def test_what_does_not_exist_has_no_past(world: World) -> None:
    """Every verb says so."""
    for call in (
        lambda: world.store.state_at(door, "none", 0),
        lambda: world.store.diff(door, "none", 0, 0),
        lambda: world.store.preview(door, "none", Close()),
        lambda: world.store.log(door, "none"),
    ):
        with pytest.raises(MachineNotFound):
            call()


def test_a_log_that_does_not_replay_names_the_event(make_world: MakeWorld) -> None:
    """On other code: an event that it rejects, or whose type it does not have. What comes before can still be seen."""
    first = make_world().store
    first.start(fetching, "a")
    for event in (Go("x"), Go("y"), Nag()):
        first.advance(fetching, "a", event)
    other = build(refuses="y")
    store = make_world(machines=[other]).store

    with pytest.raises(
        ReplayFailed, match=r"fetching/a does not replay .* event 2, Go: Rejected: no y today"
    ) as caught:
        store.state_at(other, "a", 3)

    assert (caught.value.seq, caught.value.event) == (2, "Go")
    assert store.state_at(other, "a", 1).state == Busy((Item("x"),))


def test_a_version_that_nobody_knows_is_not_guessed_at(make_world: MakeWorld) -> None:
    """Its code decided, and it is not here."""
    make_world().store.start(fetching, "a")
    newer = build(version=2)

    with pytest.raises(UnknownMachine):
        make_world(machines=[newer]).store.state_at(newer, "a", 0)


def test_the_difference_of_two_states_is_by_field(world: World) -> None:
    """With what the events between emitted; the class of the state comes first."""
    world.store.start(door, "front")
    for event in SEVEN:
        world.store.advance(door, "front", event)

    found = world.store.diff(door, "front", 1, 7)

    assert (found.before.state, found.after.state) == (Closed(), Locked(4567, 2))
    assert found.changes == (
        FieldChange("", "changed", "Closed", "Locked"),
        FieldChange("code", "added", None, 4567),
        FieldChange("attempts", "added", None, 2),
    )
    everything = replay(door, Opened(), SEVEN).actions
    assert list(found.actions) == everything[len(replay(door, Opened(), SEVEN[:1]).actions) :]
    assert NotifyIRC("invalid code entered") in found.actions


def test_a_difference_looks_into_lists_and_goes_both_ways(world: World) -> None:
    """The emissions between are the same; the way back has the sides exchanged."""
    world.store.start(fetching, "a")
    for event in (Go("x"), Go("y", 2.0), Got("x")):
        world.store.advance(fetching, "a", event)

    forth, back = world.store.diff(fetching, "a", 2, 3), world.store.diff(fetching, "a", 3, 2)

    assert forth.changes == (
        FieldChange("items[0].name", "changed", "x", "y"),
        FieldChange("items[0].price", "changed", 1.0, 2.0),
        FieldChange("items[1]", "removed", {"name": "y", "price": 2.0}, None),
        FieldChange("total", "changed", 0.0, 1.0),
    )
    assert [(c.before, c.after) for c in back.changes] == [(c.after, c.before) for c in forth.changes]
    assert forth.actions == back.actions == ()
    assert world.store.diff(fetching, "a", 1, 2).actions[0] == Fetch("y", 2.0)
    same = world.store.diff(fetching, "a", 2, 2)
    assert (same.changes, same.actions) == ((), ())


def test_a_preview_is_what_advance_then_does(world: World) -> None:
    """State and actions in order, with the context that the event would have; and nothing is written."""
    world.store.start(orders, 7, New(42))
    before = world.contents()

    decision = world.store.preview(orders, 7, Pay("visa"))

    assert world.contents() == before
    after = world.store.advance(orders, 7, Pay("visa"))
    assert decision.actions == [Charge("visa", 42)]
    assert isinstance(decision.state, Charging)
    assert (decision.state.total, decision.state.id) == (after.state.total, after.state.id)
    assert before["machines"][0]["created_at"] <= decision.state.at <= after.state.at


def test_a_preview_raises_what_advance_raises(world: World) -> None:
    """Whatever the decision would be refused for; nothing changes."""
    world.store.start(orders, 7, New(0))
    world.store.start(orders, 8, New(1))
    world.store.cancel(orders, 8)
    before = world.contents()
    refusals: list[tuple[int, Any, type[Exception]]] = [
        (7, Pay(), NothingToPay),
        (7, Open(), UnknownType),
        (7, Failed(Charge("visa", 1), "no"), UnknownType),
        (7, Note(float("nan")), InvalidPayload),
        (8, Note(), MachineEnded),
    ]

    for key, event, refusal in refusals:
        for verb in (world.store.preview, world.store.advance):
            with pytest.raises(refusal):
                verb(orders, key, event)
    with pytest.raises(UnhandledEvent):
        world.store.preview(orders, 7, world_charged())

    assert world.contents() == before


def world_charged() -> Any:
    from tests.store.machines import Charged

    return Charged("r")


def test_an_event_that_would_be_held_or_ignored_does_nothing_now(world: World) -> None:
    """The state as it is, and no actions; it is not held either."""
    world.store.start(desk, 1)
    world.store.start(door, "front")

    assert world.store.preview(desk, 1, Serve("ann")) == (desk.initial, [])
    assert world.store.preview(door, "front", Lock(1)) == (Opened(), [])

    assert world.store.record(desk, 1).held == 0


def test_the_record_of_a_machine_is_whole(world: World) -> None:
    """Its row, its events, its actions, and how much it holds; those of many come by id, page by page."""
    for key in ("a", "b"):
        world.store.start(fetching, key)
        world.store.advance(fetching, key, Go("x"))
    world.store.start(desk, 1)
    world.store.advance(desk, 1, Serve("ann"))

    log = world.store.log("fetching", "a")

    assert [(entry.seq, entry.name, entry.outcome) for entry in log.entries] == [
        (0, "Idle", "applied"), (1, "Go", "applied"),
    ]  # fmt: skip
    assert [(row.idx, row.name, row.timer) for row in log.rows] == [
        (0, "Fetch", None), (1, "After", "nag"), (2, "Tell", None), (3, "Timeout", "state:Busy"),
    ]  # fmt: skip
    assert world.store.log(desk, 1).held == 1
    ids = [each.seen.id for each in world.store.logs()]
    assert ids == sorted(ids)
    assert len(ids) == world.store.count() == 3
    assert [each.seen.id for each in world.store.logs(after=ids[0])] == ids[1:]
    assert {each.seen.machine for each in world.store.logs(["desk"])} == {"desk"}
    assert world.store.logs(after=ids[-1]) == []
    assert world.store.get(fetching, "a").state != Idle() != Over()
