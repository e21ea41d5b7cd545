"""Limits on every store: who is admitted, in which order, and when more are; time is the store's own."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import create_engine

from fsm_core import ActionStatus
from fsm_core.delivery.ports import Cursor, Move
from fsm_core.errors import ConfigurationError
from fsm_core.limits import Limit
from fsm_core.memory.outbox import MemoryOutbox
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.urls import engine_url
from fsm_core.records import ActionRecord
from tests.delivery.calls import Make, calls
from tests.store.conformance.conftest import MakeWorld
from tests.store.limited import nursery, toddler
from tests.store.world import MemoryWorld, PostgresWorld, World

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    world = make_world(machines=[calls])
    world.store.start(calls, "m")
    return world


@contextmanager
def outbox_of(world: World) -> Iterator[MemoryOutbox | PostgresOutbox]:
    if isinstance(world, MemoryWorld):
        yield MemoryOutbox(world.origin._tables)
        return
    assert isinstance(world, PostgresWorld)
    engine = create_engine(engine_url(world.url))
    yield PostgresOutbox(engine, cipher=world.cipher)
    engine.dispose()


def admit(world: World) -> Counter[str]:
    """One pass; how many of each tenant are pending after it."""
    with outbox_of(world) as outbox:
        if isinstance(outbox, MemoryOutbox):
            outbox.admit()
        else:
            outbox.admit(Cursor())
    return pending(world)


def pending(world: World) -> Counter[str]:
    return Counter(str(each.payload["tenant"]) for each in actions(world, ActionStatus.PENDING))


def actions(world: World, status: ActionStatus | None = None) -> list[ActionRecord]:
    found: list[ActionRecord] = world.store.actions(status=status and status.value, limit=1000)
    return found


def end(world: World, how_many: int = 1) -> None:
    """Some of what is admitted ends."""
    for each in actions(world, ActionStatus.PENDING)[:how_many]:
        world.store.cancel_action(each.id)


def passes(world: World, seconds: float) -> None:
    """Time goes by, as the store sees it."""
    if isinstance(world, MemoryWorld):
        world.origin.clock.advance(seconds)
    else:
        assert isinstance(world, PostgresWorld)
        world.sql("UPDATE fsm.buckets SET refilled_at = refilled_at - %s * interval '1 s'", seconds)
        world.sql("UPDATE fsm.actions SET run_at = run_at - %s * interval '1 s'", seconds)


def test_a_limit_admits_as_many_as_it_says_for_each_key(world: World) -> None:
    """What ends makes room for the next; another key has room of its own; no key is a key."""
    world.store.limit("api", max_running=2)
    for tenant, times in (("a", 5), ("b", 1), (None, 3)):
        world.store.advance(calls, "m", Make(times, tenant))
    assert {each.status for each in actions(world)} == {ActionStatus.BLOCKED}

    assert admit(world) == {"a": 2, "b": 1, "None": 2}
    assert admit(world) == {"a": 2, "b": 1, "None": 2}
    for each in actions(world, ActionStatus.PENDING):
        if each.payload["tenant"] == "a":
            world.store.cancel_action(each.id)
    assert admit(world) == {"a": 2, "b": 1, "None": 2}
    assert [each.payload["number"] for each in actions(world, ActionStatus.PENDING)][:2] == [2, 3]


def test_the_most_urgent_goes_first_and_then_the_oldest(world: World) -> None:
    """A row of low priority does not pass one of high priority that waits for the same limit."""
    world.store.limit("api", max_running=3)
    for priority in (9, 5, 0):
        world.store.advance(calls, "m", Make(2, priority=priority))

    admit(world)

    found = [
        (each.payload["priority"], each.payload["number"]) for each in actions(world, ActionStatus.PENDING)
    ]
    assert sorted(found) == [(0, 0), (0, 1), (5, 0)]


def test_a_lane_with_a_limit_needs_both(world: World) -> None:
    """Two lanes share a limit of one: neither the second of a lane nor the second lane is admitted beside the first."""
    world.store.limit("api", max_running=1)
    for lane in ("x", "x", "y"):
        world.store.advance(calls, "m", Make(1, lane=lane))

    order = []
    for _ in range(3):
        assert admit(world) == {"a": 1}
        order.append(actions(world, ActionStatus.PENDING)[0].payload["lane"])
        end(world)
    assert sorted(order) == ["x", "x", "y"]
    assert admit(world) == {}

    world.store.limit("api", max_running=5)
    for lane in ("x", "x", "y"):
        world.store.advance(calls, "m", Make(1, lane=lane))
    assert admit(world) == {"a": 2}


def test_tokens_flow_in_with_time_up_to_the_burst(world: World) -> None:
    """Each key has a bucket of its own, full at first; nothing is given back for what ends."""
    world.store.limit("api", rate=10, per=HOUR, burst=3)
    world.store.advance(calls, "m", Make(20, "a"))
    world.store.advance(calls, "m", Make(1, "b"))

    assert admit(world) == {"a": 3, "b": 1}
    end(world, 4)
    assert admit(world) == {}
    passes(world, 300)
    assert admit(world) == {}
    passes(world, 61)
    assert admit(world) == {"a": 1}
    passes(world, 720)
    assert admit(world) == {"a": 3}
    passes(world, 36_000)
    assert admit(world) == {"a": 6}


def test_a_limit_that_nobody_has_set_holds_back_and_says_so(world: World) -> None:
    """Others are not held back by it; once it is set, what waited is let through and says nothing any more."""
    world.store.limit("other", max_running=1)
    world.store.advance(calls, "m", Make(2, limit="typo"))
    world.store.advance(calls, "m", Make(1, limit="typo", lane="x"))
    world.store.advance(calls, "m", Make(1, "b", "other"))

    assert admit(world) == {"b": 1}
    noted = [each for each in actions(world, ActionStatus.BLOCKED) if each.note]
    assert {each.note for each in noted} == {"waits for a limit that nobody has set: typo"}
    assert {each.payload["lane"] for each in noted} == {"x", None}

    world.store.limit("typo")
    assert admit(world) == {"a": 3, "b": 1}
    assert [each for each in actions(world) if each.note] == []


def test_a_limit_of_nothing_is_a_pause(world: World) -> None:
    """What is admitted goes on; more is admitted when it is lifted."""
    world.store.limit("api", max_running=1)
    world.store.advance(calls, "m", Make(3))
    admit(world)

    world.store.limit("api", max_running=0)
    assert admit(world) == {"a": 1}
    end(world)
    assert admit(world) == {}
    world.store.limit("api")
    assert admit(world) == {"a": 2}


def test_limits_are_set_listed_and_removed(world: World) -> None:
    """Setting one again changes it as a whole; a removed one is as one that was never set."""
    first = world.store.limit("api", max_running=1, rate=100, per=MINUTE)
    assert first == Limit("api", 1, 100, MINUTE, 100)
    world.store.limit("api", max_running=1, rate=100, per=MINUTE)
    world.store.limit("queue:default", max_running=5)
    assert world.store.limits() == [first, Limit("queue:default", max_running=5)]

    assert world.store.limit("api", rate=0.5) == Limit("api", None, 0.5, timedelta(seconds=1), 1)
    assert world.store.remove_limit("api") is True
    assert world.store.remove_limit("api") is False
    assert world.store.limits() == [Limit("queue:default", max_running=5)]
    world.store.advance(calls, "m", Make(1))
    assert admit(world) == {}


def test_a_removed_limit_forgets_its_tokens(world: World) -> None:
    """Set again, its buckets are full."""
    world.store.advance(calls, "m", Make(4))
    for total in (2, 4):
        world.store.limit("api", rate=2, per=MINUTE)
        assert admit(world) == {"a": total}
        world.store.remove_limit("api")


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_running": -1}, {"max_running": 1.5}, {"max_running": True}, {"rate": 0}, {"rate": -1}, {"rate": float("nan")},
        {"rate": float("inf")}, {"rate": "10"}, {"burst": 1}, {"rate": 1, "burst": 0}, {"per": timedelta(0)},
        {"rate": 1, "per": timedelta(days=1000)}, {"rate": 1, "per": 60}, {"name": ""}, {"name": "a\nb"}, {"name": "x" * 256},
    ],
)  # fmt: skip
def test_what_is_no_limit_is_refused(world: World, wrong: dict[str, object]) -> None:
    """Nothing is written."""
    with pytest.raises(ConfigurationError):
        world.store.limit(**{"name": "api", **wrong})

    assert world.store.limits() == []


@pytest.mark.parametrize("outcome", ["error", "timed_out", "released"])
def test_a_retry_is_admitted_again_and_holds_no_slot_while_it_waits(world: World, outcome: str) -> None:
    """Its start costs a token as the first one did; what was only handed back keeps its place and its token."""
    world.store.limit("api", max_running=1, rate=2, per=HOUR)
    world.store.advance(calls, "m", Make(3))
    admit(world)
    (first,) = actions(world, ActionStatus.PENDING)
    ticket, claim = uuid4(), uuid4()
    with outbox_of(world) as outbox:
        if isinstance(outbox, MemoryOutbox):
            outbox.publish(1, ticket, lambda row: row.status is ActionStatus.PENDING)
        else:
            outbox.publish("default", 1, ticket)
        assert len(outbox.claim(uuid4(), [first.id], ticket, claim)) == 1
        back = Move(
            first.id, ActionStatus.RUNNING, claim, ActionStatus.PENDING, timedelta(seconds=10),
            attempt_outcome=outcome,
        )  # fmt: skip
        assert outbox.move([back]) == {first.id}

    released = outcome == "released"
    assert world.store.action(first.id).status is (ActionStatus.PENDING if released else ActionStatus.BLOCKED)
    assert admit(world) == {"a": 1}
    ids = [each.id for each in actions(world, ActionStatus.PENDING)]
    assert (first.id in ids) is released
    if not released:
        end(world)
        passes(world, 11)
        assert admit(world) == {}
        passes(world, 1900)
        admit(world)
        assert len(actions(world, ActionStatus.PENDING)) == 1


def test_what_failed_for_good_is_admitted_again_when_it_is_retried_by_hand(world: World) -> None:
    """It waits for its limit as it did at first."""
    world.store.limit("api", max_running=1)
    world.store.advance(calls, "m", Make(1))
    (action,) = actions(world)
    if isinstance(world, MemoryWorld):
        row = world.origin._tables.actions[action.id]
        row.status, row.finished_at = ActionStatus.FAILED, world.origin.clock.now()
    else:
        world.change_actions(status="failed", finished_at=action.created_at)

    world.store.retry([action.id])

    assert world.store.action(action.id).status is ActionStatus.BLOCKED
    assert admit(world) == {"a": 1}


def test_a_child_is_born_with_its_limits(make_world: MakeWorld) -> None:
    """The actions of a child's `enter` stand under their limits, as its parent's do."""
    world = make_world(machines=[nursery, toddler])
    world.store.start(nursery, "n")

    assert {(each.machine, each.status) for each in actions(world) if each.name == "Cry"} == {
        ("toddler", ActionStatus.BLOCKED)
    }
