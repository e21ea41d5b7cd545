"""`store.upcast` beside others that write the same machines, on PostgreSQL."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from fsm_core import Machine
from fsm_core.delivery.upcasting import Upcast
from tests.store.conftest import MakeWorld
from tests.store.world import PostgresWorld


@dataclass(frozen=True)
class Old:
    n: int


@dataclass(frozen=True)
class New:
    n: int
    more: int


@dataclass(frozen=True)
class Add:
    n: int


def counter(meanwhile: Callable[[], object]) -> Machine[Any, Any, Any]:
    """A second version whose upcaster gives others time to act."""
    made = Machine("count", states=New, events=Add, version=2)

    @made.on
    def add(state: New, event: Add) -> New:
        return New(state.n + event.n, state.more)

    @made.upcast(1, "Old")
    def grown(old: Old) -> New:
        meanwhile()
        return New(old.n, 0)

    return made


def plain_counter() -> Machine[Any, Any, Any]:
    made = Machine("count", states=Old, events=Add)

    @made.on
    def add(state: Old, event: Add) -> Old:
        return Old(state.n + event.n)

    return made


@pytest.mark.parametrize("by_the_new", [False, True])
def test_a_machine_that_moves_meanwhile_is_decided_again(
    open_world: Callable[..., AbstractContextManager[PostgresWorld]], by_the_new: bool
) -> None:
    """Between the read and the write somebody else advances it, by the old code (it is read again) or by the new (it is done)."""
    old, moved = plain_counter(), threading.Event()
    quick = counter(lambda: None)
    with open_world() as setting, open_world(machines=(quick,) if by_the_new else ()) as other:
        setting.store.start(old, "a", Old(1))

        def move() -> None:
            if not moved.is_set():
                moved.set()
                other.store.advance(quick if by_the_new else old, "a", Add(1))

        new = counter(move)
        with open_world(machines=(new,)) as world:
            done = world.store.upcast(new)

            assert moved.is_set()
            assert (done.unreadable, done.busy, done.older) == (0, 0, 1)
            assert world.store.get(new, "a").state == New(2, 0)
            assert world.sql("SELECT key, version, state_name FROM fsm.machines") == [("a", 2, "New")]


def test_a_machine_that_is_held_for_long_holds_up_no_other(make_world: MakeWorld) -> None:
    """A caller's open transaction: that machine is counted as busy, the rest is written; later it is its turn."""
    before, old = make_world(), plain_counter()
    for key in ("a", "b", "c"):
        before.store.start(old, key, Old(1))
    new = counter(lambda: None)
    world = make_world(machines=(new,), lock_timeout=timedelta(milliseconds=50))

    with psycopg.connect(world.url) as other:
        other.execute("SELECT 1 FROM fsm.machines WHERE key = 'b' FOR UPDATE")
        assert world.store.upcast(new) == Upcast(looked=3, older=3, written=2, busy=1)

    assert world.store.upcast(new) == Upcast(looked=3, older=1, written=1)


def test_it_goes_through_any_number_of_batches(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsm_core.postgres.flows.upcast.BATCH", 2)
    before, old = make_world(), plain_counter()
    keys = ["B", "a", "b", "\u00e4", "z 1", "0", "-"]
    for key in keys:
        before.store.start(old, key, Old(1))
    new, told = counter(lambda: None), list[int]()
    world = make_world(machines=(new,))

    assert world.store.upcast(new, progress=told.append) == Upcast(looked=7, older=7, written=7)

    assert sum(told) == 7
    assert len(told) == 4
    assert world.sql("SELECT DISTINCT version FROM fsm.machines") == [(2,)]


def test_an_upcast_is_no_change_of_the_machine(make_world: MakeWorld) -> None:
    """Neither its log nor its times: what was changed lately is what an event has changed."""
    make_world().store.start(plain_counter(), "a", Old(1))
    new = counter(lambda: None)
    world = make_world(machines=(new,))
    row = "SELECT seq, updated_at, created_at, (SELECT count(*) FROM fsm.events) FROM fsm.machines"
    before = world.sql(row)

    world.store.upcast(new)

    assert world.sql(row) == before
    assert world.sql("SELECT seq, version, state_name, state FROM fsm.snapshots") == [
        (0, 2, "New", {"n": 1, "more": 0})
    ]
