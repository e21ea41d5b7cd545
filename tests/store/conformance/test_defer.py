"""Under unhandled="defer" an event waits in the inbox for the next change of state that takes it."""

import pytest

from fsm_core import UnhandledEvent
from fsm_core.errors import InboxFull
from tests.store.machines import Close, Closed, Manned, Open, Over, Retire, Serve, desk
from tests.store.world import World


def log(world: World) -> list[tuple[int, str, dict[str, object], str]]:
    return [(e.seq, e.name, e.payload, e.outcome) for e in world.store.history(desk, 1)]


def test_a_held_event_changes_no_state_and_no_log(world: World) -> None:
    """It is answered as held, at the machine's old seq and time, and is counted."""
    started = world.store.start(desk, 1)

    held = world.store.advance(desk, 1, Serve("ann"))

    assert held.held
    assert (held.seq, held.state, held.updated_at) == (0, Closed(), started.updated_at)
    assert world.store.get(desk, 1) == started
    assert world.store.record(desk, 1).held == 1
    assert len(log(world)) == 1


def test_held_events_are_applied_in_their_order_after_the_next_change(world: World) -> None:
    """Each is an event of its own with the next seq; the answer is the state right after the caller's own event."""
    world.store.start(desk, 1)
    for name in ("ann", "bob"):
        world.store.advance(desk, 1, Serve(name))

    opened = world.store.advance(desk, 1, Open())

    assert (opened.seq, opened.state, opened.held) == (1, Manned(), False)
    now = world.store.get(desk, 1)
    assert (now.seq, now.state) == (3, Manned(("ann", "bob")))
    assert log(world)[1:] == [
        (1, "Open", {}, "applied"),
        (2, "Serve", {"name": "ann"}, "applied"),
        (3, "Serve", {"name": "bob"}, "applied"),
    ]
    assert [a.payload["text"] for a in world.store.actions(machine="desk")] == ["ann", "bob"]
    assert world.contents()["inbox"] == []
    assert world.store.record(desk, 1).held == 0


def test_what_no_edge_takes_after_the_change_keeps_waiting_in_its_place(world: World) -> None:
    """A held event may close the desk again; those behind it wait for the next opening."""
    world.store.start(desk, 1)
    for name in ("ann", "last", "cid", "dan"):
        world.store.advance(desk, 1, Serve(name))

    world.store.advance(desk, 1, Open())
    assert world.store.get(desk, 1).state == Closed(("ann", "last"))
    assert [row["payload"] for row in world.contents()["inbox"]] == [{"name": "cid"}, {"name": "dan"}]

    world.store.advance(desk, 1, Open())
    assert world.store.get(desk, 1).state == Manned(("ann", "last", "cid", "dan"))
    assert world.store.record(desk, 1).held == 0


def test_a_held_event_that_is_rejected_is_ignored_with_its_reason(world: World) -> None:
    """It was accepted, so it is not dropped without a trace; those behind it are applied. A NUL in the reason costs nothing."""
    world.store.start(desk, 1)
    world.store.advance(desk, 1, Serve("rude"), dedup_key="evt-1")
    world.store.advance(desk, 1, Serve("ann"))

    world.store.advance(desk, 1, Open())

    entry = world.store.history(desk, 1)[2]
    assert (entry.name, entry.outcome, entry.reason) == ("Serve", "ignored", "be polite")
    assert world.store.get(desk, 1).state == Manned(("ann",))
    assert world.store.advance(desk, 1, Serve("rude"), dedup_key="evt-1").seq == 2


def test_an_ended_machine_holds_nothing(world: World) -> None:
    """What waits stays unapplied, what comes is unhandled."""
    world.store.start(desk, 1)
    world.store.advance(desk, 1, Serve("ann"))

    assert world.store.advance(desk, 1, Retire()).state == Over()
    assert world.store.get(desk, 1).seq == 1
    with pytest.raises(UnhandledEvent):
        world.store.advance(desk, 1, Serve("bob"))


def test_a_full_inbox_refuses(world: World) -> None:
    """At a thousand held events; nothing is written."""
    started = world.store.start(desk, 1)
    world.fill_inbox(started.id, "Serve", '{"name": "x"}', 1000)
    before = world.contents()

    with pytest.raises(InboxFull) as caught:
        world.store.advance(desk, 1, Serve("one more"))

    assert caught.value.limit == 1000
    assert world.contents() == before
    world.store.advance(desk, 1, Open())
    assert world.store.get(desk, 1).seq == 1001


def test_an_edge_takes_its_event_past_the_inbox(world: World) -> None:
    """An event that the state takes does not queue behind those that it does not take."""
    world.store.start(desk, 1)
    world.store.advance(desk, 1, Close())
    assert world.store.advance(desk, 1, Open()).state == Manned()
    assert log(world)[1:] == [(1, "Open", {}, "applied"), (2, "Close", {}, "applied")]
