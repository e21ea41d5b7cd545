"""Callers that cross: each call is decided on the state that it is written to, once, and nothing waits for ever."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from examples.door import Closed, Lock, Locked, Open, door
from fsm_core.errors import Busy, DedupMismatch, FsmError, MachineEnded
from fsm_core.postgres import PostgresStore
from tests.store.conftest import MakeWorld
from tests.store.machines import Manned, New, Note, Serve, desk, orders
from tests.store.machines import Open as OpenDesk
from tests.store.world import World, sync_world
from tests.waiting import eventually

POOL = {"pool_size": 16}


def together(calls: list[Callable[[], Any]]) -> list[Any]:
    """Make all calls at the same moment; what each answered or refused."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return call()
        except FsmError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@contextmanager
def held_by_another(
    world: World, change: Callable[[PostgresStore, psycopg.Connection[Any]], object]
) -> Iterator[Any]:
    """A transaction beside ours that has made `change` and has not committed."""
    with sync_world(world.url) as other, psycopg.connect(world.url) as connection:
        change(other.store, connection)
        yield connection


def somebody_waits_for_a_lock(world: World) -> Callable[[], bool]:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return lambda: bool(world.sql(asked)[0][0])


def test_sixteen_callers_of_one_machine_leave_no_gap(make_world: MakeWorld) -> None:
    """16 x 20 events: every one applied, every seq given once, the log gapless and the door where the log says."""
    world = make_world(engine=POOL)
    world.store.start(orders, 7, New(1))

    def twenty() -> list[int]:
        return [world.store.advance(orders, 7, Note()).seq for _ in range(20)]

    seqs = sorted(seq for answer in together([twenty] * 16) for seq in answer)

    assert seqs == list(range(1, 321))
    assert [e.seq for e in world.store.history(orders, 7)] == list(range(321))
    assert world.sql("SELECT count(*) FROM fsm.actions") == [(640,)]
    assert world.store.get(orders, 7).seq == 320


def test_crossing_starts_of_one_key_are_one_birth(make_world: MakeWorld) -> None:
    """One caller started it, the others found it; its actions are emitted once."""
    world = make_world(engine=POOL)

    answers = together([lambda: world.store.start(door, "front")] * 8)

    assert sorted(a.duplicate for a in answers) == [False] + [True] * 7
    assert len({a.id for a in answers}) == 1
    assert (
        world.sql("SELECT count(*) FROM fsm.events")
        == world.sql("SELECT count(*) FROM fsm.actions")
        == [(1,)]
    )


def test_crossing_calls_with_one_dedup_key_are_one_event(make_world: MakeWorld) -> None:
    """Whoever comes second answers what the first got."""
    world = make_world(engine=POOL)
    world.store.start(orders, 7, New(1))

    answers = together([lambda: world.store.advance(orders, 7, Note("same"), dedup_key="evt-1")] * 8)

    assert sorted((a.duplicate, a.seq) for a in answers) == [(False, 1)] + [(True, 1)] * 7
    assert len(world.store.history(orders, 7)) == 2


def test_crossing_calls_with_one_dedup_key_and_other_content_are_one_event(make_world: MakeWorld) -> None:
    """One is applied, the others are refused."""
    world = make_world(engine=POOL)
    world.store.start(orders, 7, New(1))

    def note(n: int) -> Callable[[], Any]:
        return lambda: world.store.advance(orders, 7, Note(n), dedup_key="evt-1")

    answers = together([note(n) for n in range(8)])

    assert sorted(type(a).__name__ for a in answers) == ["DedupMismatch"] * 7 + ["Snapshot"]
    assert {a.seq for a in answers if isinstance(a, DedupMismatch)} == {1}
    assert len(world.store.history(orders, 7)) == 2


def test_of_two_callers_who_expect_one_seq_one_is_refused(make_world: MakeWorld) -> None:
    """`expected_seq` holds under the lock as well."""
    world = make_world(engine=POOL)
    world.store.start(orders, 7, New(1))

    answers = together([lambda: world.store.advance(orders, 7, Note(), expected_seq=0)] * 8)

    assert sorted(type(a).__name__ for a in answers) == ["Snapshot"] + ["WrongSeq"] * 7


def test_holding_and_waking_cannot_miss_each_other(make_world: MakeWorld) -> None:
    """Events that come while the desk opens are served: none is left in the inbox of an open desk."""
    world = make_world(engine=POOL)
    for key in range(10):
        world.store.start(desk, key)

        def serve(n: int, key: int = key) -> Callable[[], Any]:
            return lambda: world.store.advance(desk, key, Serve(str(n)))

        together([serve(0), lambda key=key: world.store.advance(desk, key, OpenDesk()), serve(1), serve(2)])

        state = world.store.get(desk, key).state
        assert isinstance(state, Manned)
        assert sorted(state.served) == ["0", "1", "2"]
    assert world.contents()["inbox"] == []


def in_background(call: Callable[[], Any]) -> Future[Any]:
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(call)
    finally:
        pool.shutdown(wait=False)


def test_a_caller_waits_for_the_lock_and_decides_on_what_it_finds_then(world: World) -> None:
    """The state that was read before the wait is never written back."""
    world.store.start(door, "front", Closed())
    with held_by_another(world, lambda s, c: s.advance(door, "front", Lock(1), session=c)) as other:
        waiting = in_background(lambda: world.store.advance(door, "front", Open()))
        eventually(somebody_waits_for_a_lock(world), what="the second caller waits")
        other.commit()

    answer = waiting.result(10)
    assert (answer.seq, answer.state) == (2, Locked(1))
    assert world.store.history(door, "front")[2].outcome == "ignored"


def test_a_cancelled_machine_leaves_no_action_of_the_event_that_it_waited_for(world: World) -> None:
    """The cancel sees the actions that were committed while it waited."""
    world.store.start(orders, 7, New(1))
    with held_by_another(world, lambda s, c: s.advance(orders, 7, Note(), session=c)) as other:
        waiting = in_background(lambda: world.store.cancel(orders, 7))
        eventually(somebody_waits_for_a_lock(world), what="the cancel waits")
        other.commit()

    assert waiting.result(10) == 2
    assert [a.status for a in world.store.actions(key=7)] == ["cancelled", "cancelled"]
    with pytest.raises(MachineEnded):
        world.store.advance(orders, 7, Note())


def taken(store: PostgresStore, connection: psycopg.Connection[Any]) -> object:
    return store.advance(orders, 7, Note(), session=connection)


def born(store: PostgresStore, connection: psycopg.Connection[Any]) -> object:
    return store.start(orders, 8, New(1), session=connection)


@pytest.mark.parametrize(
    ("change", "call"),
    [
        (taken, lambda s: s.advance(orders, 7, Note())),
        (taken, lambda s: s.cancel(orders, 7)),
        (born, lambda s: s.start(orders, 8, New(2))),
    ],
    ids=["advance", "cancel", "start"],
)
def test_a_lock_that_is_held_too_long_is_busy(
    make_world: MakeWorld,
    change: Callable[[PostgresStore, psycopg.Connection[Any]], object],
    call: Callable[[Any], Any],
) -> None:
    """After `lock_timeout` the caller gets Busy; nothing was written, and afterwards the same call succeeds."""
    world = make_world(lock_timeout=timedelta(milliseconds=100))
    world.store.start(orders, 7, New(1))
    before = world.contents()
    with held_by_another(world, change) as other:
        with pytest.raises(Busy) as caught:
            call(world.store)
        other.rollback()

    assert caught.value.sqlstate == "55P03"
    assert world.contents() == before
    call(world.store)
    assert world.contents() != before
