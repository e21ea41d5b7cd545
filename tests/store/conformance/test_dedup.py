"""A repeated dedup key changes nothing; another event under it is refused."""

import pytest

from examples.door import Close, Lock, Open, door
from fsm_core.errors import DedupMismatch
from tests.store.machines import Closed, Manned, New, Note, Serve, desk, orders
from tests.store.machines import Open as Unlock
from tests.store.world import World


def test_the_same_key_and_event_answers_the_first_seq(world: World) -> None:
    """It is no second event, however far the machine has moved, and ended or not."""
    world.store.start(door, "front")
    first = world.store.advance(door, "front", Close(), dedup_key="evt-1")
    world.store.advance(door, "front", Open())
    before = world.contents()

    again = world.store.advance(door, "front", Close(), dedup_key="evt-1")

    assert (first.duplicate, again.duplicate) == (False, True)
    assert (first.seq, again.seq) == (1, 1)
    assert world.contents() == before


@pytest.mark.parametrize("event", [Lock(2), Close()])
def test_the_same_key_with_other_content_is_refused(world: World, event: object) -> None:
    """Another payload, or another event: the error has the key and the seq of the first."""
    world.store.start(door, "front")
    world.store.advance(door, "front", Lock(1), dedup_key="evt-1")
    before = world.contents()

    with pytest.raises(DedupMismatch) as caught:
        world.store.advance(door, "front", event, dedup_key="evt-1")

    assert (caught.value.dedup_key, caught.value.seq) == ("evt-1", 1)
    assert world.contents() == before


def test_a_key_belongs_to_one_machine(world: World) -> None:
    """Another machine takes the same key as new."""
    for key in ("front", "back"):
        world.store.start(door, key)
        assert not world.store.advance(door, key, Close(), dedup_key="evt-1").duplicate


def test_a_duplicate_is_found_before_expected_seq_and_the_end_of_the_machine(world: World) -> None:
    """A webhook that comes again gets its old answer, not a refusal."""
    world.store.start(orders, 7, New(1))
    world.store.advance(orders, 7, Note(), dedup_key="evt-1", expected_seq=0)
    world.store.cancel(orders, 7)

    again = world.store.advance(orders, 7, Note(), dedup_key="evt-1", expected_seq=0)
    assert (again.duplicate, again.seq, again.status) == (True, 1, "cancelled")


def test_the_same_content_in_another_order_is_the_same_content(world: World) -> None:
    """What tells two events apart is their JSON value, not how it is written."""
    world.store.start(orders, 7, New(1))
    world.store.advance(orders, 7, Note({"a": 1, "b": [1.0]}), dedup_key="evt-1")

    assert world.store.advance(orders, 7, Note({"b": [1.0], "a": 1}), dedup_key="evt-1").duplicate
    with pytest.raises(DedupMismatch):
        world.store.advance(orders, 7, Note({"a": 1, "b": [2.0]}), dedup_key="evt-1")


def test_a_held_event_is_known_by_its_key_before_and_after_it_is_taken(world: World) -> None:
    """While it waits it has no seq; then it has the one that it was applied with."""
    world.store.start(desk, 1)
    assert world.store.advance(desk, 1, Serve("ann"), dedup_key="evt-1").held

    waiting = world.store.advance(desk, 1, Serve("ann"), dedup_key="evt-1")
    with pytest.raises(DedupMismatch) as caught:
        world.store.advance(desk, 1, Serve("bob"), dedup_key="evt-1")
    world.store.advance(desk, 1, Unlock())
    applied = world.store.advance(desk, 1, Serve("ann"), dedup_key="evt-1")

    assert (waiting.duplicate, waiting.held, waiting.seq, waiting.state) == (True, True, 0, Closed())
    assert caught.value.seq is None
    assert (applied.duplicate, applied.held, applied.seq, applied.state) == (True, False, 2, Manned(("ann",)))
    with pytest.raises(DedupMismatch, match=r"\(seq 2\)"):
        world.store.advance(desk, 1, Serve("bob"), dedup_key="evt-1")
