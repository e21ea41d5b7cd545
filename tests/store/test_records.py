"""Whole records from PostgreSQL: of one moment, page by page, through jsonb; and what belongs to no machine."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine

from examples.door import SEVEN, Close, Open, door
from fsm_core.audit import Finding, Orphan, fsck
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.flows import audit as flows
from tests.audit.fetching import Busy, Go, Item, Nag, Stop, fetching
from tests.store.conftest import MakeWorld
from tests.store.machines import Open as Open_desk
from tests.store.machines import Serve, desk
from tests.store.world import PostgresWorld
from tests.waiting import eventually


def findings(store: PostgresStore) -> list[Finding]:
    """What is found in all records, a page at a time, as the command does it."""
    found: list[Finding] = []
    after: UUID | None = None
    while page := store.logs(after=after):
        found += [each for log in page for each in fsck(log, store.registry).findings]
        after = page[-1].seen.id
    return found


def test_what_has_gone_through_jsonb_is_sound(engine: Engine) -> None:
    """Keys reordered, numbers rewritten: names in other orders, floats that are whole, tiny and huge."""
    store = PostgresStore(engine)
    store.start(fetching, "a")
    for name, price in (("x", 1e16), ("lane:y", 5e-324), ("z", -0.0), ("ä\u2028", 1e300)):
        store.advance(fetching, "a", Go(name, price))
    store.advance(fetching, "a", Nag())
    store.start(fetching, "b")
    store.advance(fetching, "b", Stop())
    store.start(door, "front")
    for event in SEVEN:
        store.advance(door, "front", event)
    store.start(desk, 1)
    for held in (Serve("rude"), Serve("ann"), Open_desk()):
        store.advance(desk, 1, held)

    assert findings(store) == []


def test_a_machine_that_moves_while_it_is_read_is_sound(engine: Engine) -> None:
    """Row, log and outbox are of one moment, however quickly the next comes."""
    store = PostgresStore(engine)
    for key in range(3):
        store.start(door, key)
    done = threading.Event()

    def moves(key: int) -> None:
        while not done.is_set():
            store.advance(door, key, Close())
            store.advance(door, key, Open())

    threads = [threading.Thread(target=moves, args=(key,)) for key in range(3)]
    for thread in threads:
        thread.start()
    try:
        last = 0
        while last < 100:
            assert findings(store) == []
            last = min(store.get(door, key).seq for key in range(3))
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_pages_go_on_until_all_have_been_seen(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """By number of machines, and by their events: a long log fills a page alone."""
    store = PostgresStore(engine)
    for key in range(5):
        store.start(door, key)
    for event in SEVEN:
        store.advance(door, 2, event)
    monkeypatch.setattr(flows, "PAGE_MACHINES", 3)
    monkeypatch.setattr(flows, "PAGE_EVENTS", 2)

    pages, after = [], None
    while page := store.logs(["door"], after=after):
        pages.append([int(log.seen.key) for log in page])
        after = page[-1].seen.id

    assert [key for page in pages for key in page] == [0, 1, 2, 3, 4]
    assert [len(page) for page in pages] == [2, 1, 2]
    assert store.logs(["door"], since=timedelta(hours=1)) != []
    assert store.logs(["door"], since=timedelta(0)) == []
    assert store.count(since=timedelta(hours=1)) == 5


def test_rows_without_a_machine_are_found(world: PostgresWorld) -> None:
    """Events and actions; within the range that is asked for."""
    started = world.store.start(door, "front")
    world.store.advance(door, "front", Close())
    assert world.store.orphans() == []

    world.sql("DELETE FROM fsm.machines")

    assert world.store.orphans() == [Orphan(started.id, "actions", 2), Orphan(started.id, "events", 2)]
    assert world.store.orphans(started.id) == []
    assert world.store.orphans(None, UUID(int=started.id.int - 1)) == []


def test_the_past_begins_at_a_snapshot(make_world: MakeWorld) -> None:
    """The nearest one before it: what comes earlier need not even be there."""
    world = make_world()
    world.store.start(fetching, "a")
    for event in (Go("x"), Go("y"), Go("z")):
        world.store.advance(fetching, "a", event)
    world.sql(
        """INSERT INTO fsm.snapshots (machine_id, seq, version, state_name, state)
           SELECT id, 2, 1, 'Busy', '{"items": [{"name": "other"}]}' FROM fsm.machines"""
    )
    world.sql("DELETE FROM fsm.events WHERE seq < 2")

    assert world.store.state_at(fetching, "a", 2).state == Busy((Item("other"),))
    assert world.store.state_at(fetching, "a", 3).state == Busy((Item("other"), Item("z")))
    assert [c.path for c in world.store.diff(fetching, "a", 3, 2).changes] == ["items[1]"]


def test_restoring_waits_for_its_machine(world: PostgresWorld) -> None:
    """Nothing is looked at before the lock is had: what the other transaction does counts."""
    world.store.start(fetching, "a")
    world.store.advance(fetching, "a", Go("x"))
    world.sql("DELETE FROM fsm.actions WHERE name = 'Fetch'")
    with psycopg.connect(world.url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT 1 FROM fsm.machines FOR UPDATE")
        restoring = pool.submit(world.store.restore, fetching, "a")
        blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        eventually(lambda: world.sql(blocked), what="restore waits for the lock")
        assert not restoring.done()
        other.rollback()
        assert len(restoring.result(10)) == 1
