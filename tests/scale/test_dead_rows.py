"""A snapshot stays open while rows go through the queue: what relays and workers read is counted in pages, never in time."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine, text

from fsm_core.postgres import PostgresStore, low_water
from fsm_core.postgres.low_water import ALL, EVERY, MARGIN, LowWater
from fsm_core.postgres.outbox import PostgresOutbox
from tests.conftest import passing_database
from tests.plans.explaining import Recorder
from tests.plans.filling import Size, analyze, bear, prepare
from tests.plans.parcels import Move, parcel
from tests.store.world import plain
from workers.dev.servers import Servers

DEAD = 100_000

PENDING = """
INSERT INTO fsm.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, created_at, run_at)
SELECT m.id, 1, n, 'Carry', 1, '{"how": "plain", "what": ""}', true, 'pending', 'default', 5, now(), now()
  FROM fsm.machines m, generate_series(1, 100) n"""
THROUGH = (
    "UPDATE fsm.actions SET status = 'published', token = gen_random_uuid(), published_at = now() WHERE status = 'pending'",
    "UPDATE fsm.actions SET status = 'running', worker_id = gen_random_uuid(), started_at = now() WHERE status = 'published'",
    "UPDATE fsm.actions SET status = 'completed', finished_at = now() WHERE status = 'running'",
)


class Queue:
    """A queue through which 100,000 actions went while a snapshot was open, which is so still."""

    def __init__(self, url: str, recorder: Recorder, engine: Engine) -> None:
        self.url, self.recorder = url, recorder
        self.clock = 100.0
        self.outbox = PostgresOutbox(engine, low_water=True)
        for each in ("_due", "_taken"):
            setattr(self.outbox, each, LowWater(lambda: self.clock))
        self.store = PostgresStore(engine, machines=[parcel])

    def pages(self, name: str) -> list[int]:
        """What the executions of the statement touched since it was asked before."""
        found = [each.buffers for each in self.recorder.of(name)]
        self.recorder.seen.clear()
        return found


@pytest.fixture(scope="module")
def pinned(servers: Servers, template: str) -> Iterator[Queue]:
    for url in passing_database(servers, "CREATE DATABASE {} TEMPLATE {}", template):
        recorder = Recorder(url)
        engine = recorder.engine(own=True)
        with psycopg.connect(plain(url), autocommit=True) as connection, psycopg.connect(plain(url)) as old:
            prepare(connection)
            bear(connection, Size(machines=1000, timers=0, backlog=0))
            old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            old.execute("SELECT count(*) FROM fsm.machines")
            connection.execute(PENDING.encode())
            for step in THROUGH:
                connection.execute(step.encode())
            analyze(connection)
            with recorder.listening():
                yield Queue(url, recorder, engine)
        engine.dispose()


def test_a_poll_passes_over_what_is_dead(pinned: Queue) -> None:
    """Once a second a look at everything; between, as if there were nothing."""
    outbox = pinned.outbox
    for _ in range(3):
        assert outbox.publish("default", 100, uuid4()) == []
        pinned.clock += EVERY / 4
    whole, *others = pinned.pages("publish")
    assert whole > 1000
    assert max(others) < 60

    for _ in range(3):
        assert outbox.window("default") == 0
        pinned.clock += EVERY / 4
    whole, *others = pinned.pages("window")
    assert whole > 1000
    assert max(others) < 20

    pinned.clock += EVERY
    outbox.publish("default", 100, uuid4())
    assert pinned.pages("publish")[0] > 1000


def test_what_comes_is_published_claimed_and_counted(pinned: Queue) -> None:
    """New rows are found between two whole looks; the claim goes by key and reads no more than ever."""
    outbox, ticket = pinned.outbox, uuid4()
    pinned.clock += 2 * EVERY
    outbox.publish("default", 100, uuid4())
    outbox.window("default")
    pinned.store.start(parcel, "young")
    pinned.store.advance(parcel, "young", Move())
    pinned.recorder.seen.clear()

    rows = outbox.publish("default", 100, ticket)

    assert [row.action for row in rows] == ["Carry"]
    assert pinned.pages("publish")[0] < 100
    assert outbox.window("default") == 1
    assert pinned.pages("window")[0] < 20
    claimed = outbox.claim(uuid4(), [row.id for row in rows], ticket, uuid4())
    assert len(claimed) == 1
    assert pinned.pages("claim")[0] < 60
    assert outbox.window("default") == 0


def test_what_is_put_back_is_seen_at_once(pinned: Queue) -> None:
    """The broker was away: its rows are as old as they were."""
    outbox, ticket = pinned.outbox, uuid4()
    pinned.store.start(parcel, "back")
    pinned.store.advance(parcel, "back", Move())
    pinned.clock += 2 * EVERY
    (row,) = outbox.publish("default", 100, ticket)
    with psycopg.connect(plain(pinned.url), autocommit=True) as connection:
        connection.execute(
            "UPDATE fsm.actions SET run_at = now() - interval '1 h' WHERE status = 'published'"
        )
    outbox.unpublish([row.id], ticket, "the broker did not answer")

    assert [each.id for each in outbox.publish("default", 100, uuid4())] == [row.id]


def test_what_commits_late_is_seen_within_a_second(engine: Engine) -> None:
    """Older than the mark, and there only now: the next whole look finds it; what was in time is found at once."""
    clock = [100.0]
    outbox, store = PostgresOutbox(engine, low_water=True), PostgresStore(engine, machines=[parcel])
    outbox._due = LowWater(lambda: clock[0])
    assert outbox.publish("default", 10, uuid4()) == []
    store.start(parcel, "a")
    store.advance(parcel, "a", Move())
    with engine.begin() as connection:
        connection.execute(text("UPDATE fsm.actions SET run_at = now() - interval '1 minute'"))

    clock[0] += EVERY * 0.9
    assert outbox.publish("default", 10, uuid4()) == []
    clock[0] += EVERY * 0.1
    assert len(outbox.publish("default", 10, uuid4())) == 1


def test_the_mark_is_of_the_oldest_row_that_is_left() -> None:
    """And of each queue by itself; a look that was cut off sets none."""
    clock = [5.0]
    marks = LowWater(lambda: clock[0])
    assert marks.look("a") == (5.0, ALL)
    marks.found("a", marks.look("a"), timedelta(seconds=7))
    clock[0] += 0.5
    assert marks.look("a") == (5.5, timedelta(seconds=7.5) + MARGIN)
    assert marks.look("b").whole
    marks.found("a", marks.look("a"), None)
    clock[0] += 0.4
    assert marks.look("a").back == timedelta(seconds=7.9) + MARGIN
    marks.forget()
    assert marks.look("a").whole
    assert low_water.EVERY == 1.0
