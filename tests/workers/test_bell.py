"""No lost wake-up: every interleaving of a writer and a relay that goes to sleep, on real connections; and under load."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from itertools import combinations
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine

from fsm_core.delivery.relay import Relay
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.statements import relay as sql
from tests.delivery.test_relay import FakeBroker
from tests.store.world import plain
from tests.waiting import eventually
from tests.workers.jobs import Do, jobs
from workers.bell import Bell

Connection = psycopg.Connection[Any]

WRITER = ("insert", "try", "commit")
RELAY = ("take", "look", "sleep")
ORDERS = [
    tuple(
        WRITER[sum(n in mine for n in range(at))]
        if at in mine
        else RELAY[sum(n not in mine for n in range(at))]
        for at in range(6)
    )
    for mine in map(set, combinations(range(6), 3))
]
"""All twenty ways in which the three steps of the one fall among those of the other."""

NOTES = "CREATE TABLE notes (n int); CREATE TABLE flag (asleep bool); INSERT INTO flag VALUES (false)"


class ByLock:
    """As it is: the relay holds the lock, the writer notifies if it cannot share it."""

    TRY = "SELECT CASE WHEN NOT pg_try_advisory_xact_lock_shared({bell}) THEN pg_notify('fsm', '') END"

    @staticmethod
    def attempt(writer: Connection) -> None:
        writer.execute(sql.Statement("try", ByLock.TRY).on("fsm").encode())

    @staticmethod
    def take(relay: Connection) -> bool:
        row = relay.execute(sql.TAKE_BELL.on("fsm").encode()).fetchone()
        return row is not None and bool(row[0])


class ByFlag:
    """As it must not be: the relay says in a table that it sleeps, the writer looks there."""

    @staticmethod
    def attempt(writer: Connection) -> None:
        writer.execute("SELECT CASE WHEN asleep THEN pg_notify('fsm', '') END FROM flag")

    @staticmethod
    def take(relay: Connection) -> bool:
        relay.execute("UPDATE flag SET asleep = true")
        return True


@pytest.fixture
def pair(database_url: str) -> Iterator[tuple[Connection, Connection]]:
    """A writer's connection, and a relay's that listens."""
    with (
        psycopg.connect(plain(database_url)) as writer,
        psycopg.connect(plain(database_url), autocommit=True) as relay,
    ):
        relay.execute(NOTES)
        relay.execute("LISTEN fsm")
        yield writer, relay


def lost(pair: tuple[Connection, Connection], way: type[ByLock | ByFlag], order: tuple[str, ...]) -> bool:
    """Whether the relay sleeps, has not seen the row and is not told, when all is done in that order."""
    writer, relay = pair
    safe = False
    for step in order:
        if step == "insert":
            writer.execute("INSERT INTO notes VALUES (1)")
        elif step == "try":
            way.attempt(writer)
        elif step == "commit":
            writer.commit()
        elif step == "take":
            safe = not way.take(relay)  # refused: writers are in flight, and it looks again soon
        elif step == "look" and not safe:
            safe = relay.execute("SELECT 1 FROM notes").fetchone() is not None
    # What was notified before this round trip has come by its end; and if it came before the sleep, it was kept.
    relay.execute("SELECT 1")
    told = list(relay.notifies(timeout=0))
    relay.execute("SELECT pg_advisory_unlock_all(); DELETE FROM notes; UPDATE flag SET asleep = false")
    return not safe and not told


def test_no_order_of_steps_loses_a_wake_up(pair: tuple[Connection, Connection]) -> None:
    assert len(set(ORDERS)) == 20
    assert [order for order in ORDERS if lost(pair, ByLock, order)] == []


def test_a_flag_in_a_table_loses_what_commits_after_the_look(pair: tuple[Connection, Connection]) -> None:
    """The same enumeration finds it: the writer looked too early, and the relay as well."""
    found = {order for order in ORDERS if lost(pair, ByFlag, order)}

    assert found == {
        order
        for order in ORDERS
        if order.index("try") < order.index("take") and order.index("look") < order.index("commit")
    }
    assert ("insert", "try", "take", "look", "commit", "sleep") in found


@pytest.mark.parametrize("write", ["before", "in the look", "before the sleep"])
@pytest.mark.parametrize("commit", ["before", "in the look", "before the sleep", "in the sleep"])
def test_the_relays_own_sleep_misses_no_order(
    database_url: str, engine: Engine, write: str, commit: str
) -> None:
    """Its own code, and the store's own statements, with each step of the writer at each place within."""
    places = ["before", "in the look", "before the sleep", "in the sleep"]
    if places.index(commit) < places.index(write):
        commit = write
    store, outbox = PostgresStore(engine), PostgresOutbox(engine)
    with (
        closing(Bell(database_url, "fsm", patience=30.0)) as bell,
        psycopg.connect(plain(database_url)) as writer,
    ):
        assert bell.listens
        found: list[bool] = []

        def step(place: str) -> None:
            if place == write:
                store.start(jobs, "a", session=writer)
                store.advance(jobs, "a", Do(("x",)), session=writer)
            if place == commit:
                writer.commit()

        def look() -> bool:
            step("in the look")
            found.append(bool(outbox.publish("default", 10, uuid4())))
            return found[-1]

        def longest() -> float:
            step("before the sleep")
            if commit == "in the sleep":
                threading.Timer(0.05, writer.commit).start()
            return 600.0

        step("before")
        slept = bell.sleep(look, longest)
        if not slept:
            assert write == "before"  # the writer was in flight: refused, and so it polls
            writer.commit()

        assert any(found) or outbox.publish("default", 10, uuid4())


def test_no_wake_up_is_lost_under_load(database_url: str, engine: Engine) -> None:
    """Four writers, one relay that would sleep for a minute: what is missed is never published in time."""
    store, outbox, over = PostgresStore(engine), PostgresOutbox(engine), threading.Event()
    published: list[object] = []
    slept: list[bool] = []

    def work() -> bool:
        rows = outbox.publish("default", 100, uuid4())
        published.extend(row.id for row in rows)
        return bool(rows) or over.is_set()

    def relay() -> None:
        with closing(Bell(database_url, "fsm", patience=30.0)) as bell:
            while not over.is_set():
                if not work():
                    slept.append(bell.sleep(work, lambda: 60.0))
                    over.wait(0 if slept[-1] else 0.001)

    def write(name: int) -> None:
        for n in range(60):
            store.start(jobs, f"{name}-{n}")
            store.advance(jobs, f"{name}-{n}", Do(("x",)))

    with ThreadPoolExecutor(5) as pool:
        running = pool.submit(relay)
        try:
            for done in [pool.submit(write, name) for name in range(4)]:
                done.result(60)
            eventually(lambda: len(published) >= 240, timeout=30, what="every row was published")
        finally:
            over.set()
            with psycopg.connect(plain(database_url), autocommit=True) as connection:
                connection.execute("NOTIFY fsm")
            running.result(90)

    assert len(published) == len(set(published)) == 240
    assert any(slept)


def test_where_nobody_listens_it_polls(
    database_url: str, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    """Behind a pooler in transaction mode: the bell is never taken, so no writer notifies, and no sleep is relied on."""
    monkeypatch.setattr(Bell, "_echo", lambda _self: False)
    store = PostgresStore(engine)
    with (
        closing(Bell(database_url, "fsm", patience=30.0)) as bell,
        psycopg.connect(plain(database_url), autocommit=True) as other,
    ):
        other.execute("LISTEN fsm")
        assert not bell.sleep(lambda: False, lambda: 60.0)
        store.start(jobs, "a")
        store.advance(jobs, "a", Do(("x",)))
        other.execute("SELECT 1")
        assert list(other.notifies(timeout=0)) == []


def test_what_rang_before_ends_one_sleep_and_no_more(database_url: str) -> None:
    """Many writers may ring while the relay is at work; each of them would cost a look later."""
    looks: list[int] = []
    with (
        closing(Bell(database_url, "fsm", patience=30.0)) as bell,
        psycopg.connect(plain(database_url), autocommit=True) as other,
    ):
        for _ in range(5):
            other.execute("NOTIFY fsm")
        for nth in range(3):
            assert bell.sleep(lambda nth=nth: looks.append(nth), lambda: 0.0)  # type: ignore[misc,func-returns-value]

    assert looks == [0, 0, 1, 2]


def test_no_sleep_relies_on_a_look_that_another_relay_stood_in_the_way_of(
    database_url: str, engine: Engine
) -> None:
    """Its snapshot may be older than what waits for admission."""
    store = PostgresStore(engine)
    store.start(jobs, "a")
    store.advance(jobs, "a", Do(("x",), lane="one"))
    with psycopg.connect(plain(database_url)) as other:
        other.execute(sql.ADMISSION.on("fsm").encode())

        tick = Relay(PostgresOutbox(engine), FakeBroker(), uuid4).tick({}, admit=True)

    assert (tick.admitted, tick.wake) == (0, timedelta(0))
