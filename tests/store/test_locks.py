"""Callers that meet a lock: who waits decides on what is there then, and nobody waits for ever."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from examples.door import Closed, Lock, Locked, Open, door
from fsm_core.errors import Busy, MachineEnded
from fsm_core.postgres import PostgresStore
from tests.store.conftest import MakeWorld
from tests.store.machines import New, Note, orders
from tests.store.world import PostgresWorld, sync_world
from tests.waiting import eventually


@contextmanager
def held_by_another(
    world: PostgresWorld, change: Callable[[PostgresStore, psycopg.Connection[Any]], object]
) -> Iterator[Any]:
    """A transaction beside ours that has made `change` and has not committed."""
    with sync_world(world.url) as other, psycopg.connect(world.url) as connection:
        change(other.store, connection)
        yield connection


def somebody_waits_for_a_lock(world: PostgresWorld) -> Callable[[], bool]:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return lambda: bool(world.sql(asked)[0][0])


def in_background(call: Callable[[], Any]) -> Future[Any]:
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(call)
    finally:
        pool.shutdown(wait=False)


def test_a_caller_waits_for_the_lock_and_decides_on_what_it_finds_then(world: PostgresWorld) -> None:
    """The state that was read before the wait is never written back."""
    world.store.start(door, "front", Closed())
    with held_by_another(world, lambda s, c: s.advance(door, "front", Lock(1), session=c)) as other:
        waiting = in_background(lambda: world.store.advance(door, "front", Open()))
        eventually(somebody_waits_for_a_lock(world), what="the second caller waits")
        other.commit()

    answer = waiting.result(10)
    assert (answer.seq, answer.state) == (2, Locked(1))
    assert world.store.history(door, "front")[2].outcome == "ignored"


def test_a_cancelled_machine_leaves_no_action_of_the_event_that_it_waited_for(world: PostgresWorld) -> None:
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
