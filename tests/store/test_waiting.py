"""Waiting on PostgreSQL: no end is missed, whatever happens in between."""

from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import combinations
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine

from fsm_core import MachineStatus
from fsm_core.delivery.waiters import Waiters
from fsm_core.errors import MachineNotFound
from fsm_core.postgres import PostgresStore, waiting
from fsm_core.postgres.ask import Ask
from fsm_core.postgres.failures import typed
from fsm_core.postgres.statements import Statement, ended_channel
from fsm_core.postgres.statements import waiting as sql
from fsm_core.postgres.waiting import Watch
from tests.store.conftest import MakeWorld
from tests.store.machines import Drop, New, Note, orders
from tests.store.waits import in_background, listeners, waits_for
from tests.store.waits import waiting as begun
from tests.store.world import PostgresWorld, plain
from tests.waiting import eventually


class Waiter:
    """One who waits, a statement at a time: the lock and the look; afterwards, whether they were told."""

    def __init__(self, url: str, waiters: Waiters, *, ready: bool = False) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.watch = Watch(waiters, self.connection.info.backend_pid)
        self.pause: float | None = None
        self._drive(self.watch.opened())
        self.hear()
        if ready:
            self._drive(self.watch.round())

    def steps(self) -> Iterator[str]:
        """One round: the statements as they are done."""
        return self._stepwise(self.watch.round())

    def _drive(self, flow: Coroutine[Ask[Any], Any, None]) -> None:
        for _ in self._stepwise(flow):
            pass

    def _stepwise(self, flow: Coroutine[Ask[Any], Any, Any]) -> Iterator[str]:
        resume = partial(flow.send, None)
        while True:
            try:
                ask = resume()
            except StopIteration as done:
                self.pause = done.value
                return
            try:
                resume = partial(flow.send, ask.on(self.connection, "fsm"))
            except psycopg.Error as error:
                resume = partial(flow.throw, typed(error))
            yield ask.statement.name

    def hear(self) -> None:
        """What has been notified by now. All that a committed transaction notified is on its way to us: ask once and it is here."""
        self.connection.execute("SELECT 1")
        told = [note.payload for note in self.connection.notifies(timeout=0)]
        self.watch.slept(told, nudged=True)

    def close(self) -> None:
        self.connection.close()


def outcomes(url: str, store: PostgresStore, *, first: bool) -> dict[tuple[str, ...], str]:
    """Every order of the waiter's statements and the two of who ends the machine; and how the waiter learned of it.

    first: nobody has waited before, so that the waiter has to say first that it listens.
    """
    found = {}
    number = 4 if first else 2
    for place, places in enumerate(combinations(range(number + 2), 2)):
        order = ["end" if n in places else "wait" for n in range(number + 2)]
        other, machine = (store.start(orders, f"{who} {place}", New(1)).id for who in ("other", "mine"))
        waiters = Waiters()
        with waiters.waiting(other), psycopg.connect(url) as ending:
            waiter = Waiter(url, waiters, ready=not first)
            with waiters.waiting(machine) as end:
                said = tuple(ordered(waiter, store, f"mine {place}", ending, order))
                found[said] = learned(waiter, end)
            waiter.close()
    return found


def ordered(
    waiter: Waiter, store: PostgresStore, key: str, ending: psycopg.Connection[Any], order: list[str]
) -> Iterator[str]:
    """Do it in this order; gives the names of what was done. A waiter that is refused has fewer statements."""
    steps = waiter.steps()
    ends = iter(
        [
            lambda: (store.advance(orders, key, Drop(), session=ending), "end"),
            lambda: (ending.commit(), "commit"),
        ]
    )
    for who in order:
        yield next(steps, "-") if who == "wait" else next(ends)()[1]
    assert list(steps) == []


def learned(waiter: Waiter, end: Future[None]) -> str:
    looked = end.done()
    waiter.hear()
    if looked or end.done():
        return "look" if looked else "notified"
    return "looks again soon" if waiter.pause is not None and waiter.pause < waiting.FLOOR_FIRST else "missed"


def test_in_no_order_of_events_is_an_end_missed(engine: Engine, database_url: str) -> None:
    """Lock and look against try and commit: found by the look, notified, or refused, and then it looks again soon."""
    found = outcomes(plain(database_url), PostgresStore(engine), first=False)

    assert found == {
        ("share", "ended", "end", "commit"): "notified",
        ("share", "end", "ended", "commit"): "notified",
        ("share", "end", "commit", "ended"): "look",
        ("end", "share", "ended", "commit"): "looks again soon",
        ("end", "share", "commit", "ended"): "look",
        ("end", "commit", "share", "ended"): "look",
    }


def test_nor_by_the_first_who_waits(engine: Engine, database_url: str) -> None:
    """Who has ended a machine before it was said that somebody listens is waited for: notified, found, or looked for again soon."""
    found = outcomes(plain(database_url), PostgresStore(engine), first=True)

    assert len(found) == 15
    assert set(found.values()) == {"look", "notified", "looks again soon"}
    assert found["end", "announce", "grace", "ended", "-", "commit"] == "looks again soon"
    assert found["announce", "end", "grace", "ended", "-", "commit"] == "looks again soon"
    assert found["announce", "grace", "share", "end", "ended", "commit"] == "notified"


FAKES = {
    "SHARE": "SELECT u.place FROM unnest(%(places)s::int[]) AS u(place)",
    "ANNOUNCE": "SELECT true",
    "GRACE": "SELECT 1",
}


@pytest.mark.parametrize(
    ("lock", "first"), [("SHARE", False), ("SHARE", True), ("ANNOUNCE", True), ("GRACE", True)]
)
def test_without_one_of_the_locks_an_end_would_be_missed(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch, lock: str, first: bool
) -> None:
    """The check of the check: each lock is only said to be taken, once."""
    monkeypatch.setattr(sql, lock, Statement(lock.lower(), FAKES[lock]))

    assert "missed" in outcomes(plain(database_url), PostgresStore(engine), first=first).values()


def test_the_end_in_a_callers_transaction_is_heard_of_when_it_commits(world: PostgresWorld) -> None:
    """Not before, and not at all if it is rolled back."""
    world.store.start(orders, 7, New(1))
    with psycopg.connect(world.url) as connection, PostgresStoreOn(world.url) as store:
        store.advance(orders, 7, Drop(), session=connection)
        waiter = begun_while_locked(world)
        connection.rollback()
        found = world.store.get(orders, 7).id
        eventually(lambda: waits_for(world, found), what="the lock is free, and is shared")
        assert not waiter.done()

        store.advance(orders, 7, Drop(), session=connection)
        assert not waiter.done()
        connection.commit()

    assert waiter.result(10).status is MachineStatus.DONE


class PostgresStoreOn:
    def __init__(self, url: str) -> None:
        self.engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))

    def __enter__(self) -> PostgresStore:
        return PostgresStore(self.engine)

    def __exit__(self, *_: object) -> None:
        self.engine.dispose()


def begun_while_locked(world: PostgresWorld) -> Future[Any]:
    """A call of `wait` that listens, and does not get the lock yet."""
    future = in_background(world, orders, 7)
    eventually(lambda: listeners(world) == 1, what="somebody listens")
    return future


def test_a_connection_that_is_killed_loses_no_end(world: PostgresWorld) -> None:
    """The machine ends while nobody listens: the next connection looks."""
    world.store.start(orders, 7, New(1))
    waiter = begun(world, orders, 7)

    killed = world.sql(
        "SELECT pg_terminate_backend(pid) FROM (SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) l"
    )
    world.store.advance(orders, 7, Drop())

    assert killed == [(True,)]
    assert waiter.result(10).seq == 1


def test_a_machine_that_is_deleted_meanwhile_is_not_found(
    world: PostgresWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody notifies of that: the look at the floor finds it."""
    monkeypatch.setattr(waiting, "FLOOR_MOST", 0.05)
    world.store.start(orders, 7, New(1))
    waiter = begun(world, orders, 7)

    world.sql("DELETE FROM fsm.machines")

    with pytest.raises(MachineNotFound):
        waiter.result(10)


@pytest.mark.parametrize("silent", ["a pooler", "no echo"])
def test_where_no_notification_arrives_it_is_polled(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    """PgBouncer in transaction mode: another backend than that of the login, or words that never come. No lock is left behind there."""
    if silent == "a pooler":
        monkeypatch.setattr(sql, "BACKEND", Statement("backend", "SELECT 0"))
    else:
        monkeypatch.setattr(sql, "ECHO", Statement("echo", "SELECT %(word)s::text"))
    monkeypatch.setattr(waiting, "FLOOR_FIRST", 0.05)
    world = make_world()
    found = world.store.start(orders, 7, New(1)).id
    waiter = begun_while_locked(world)

    world.store.advance(orders, 7, Note())
    assert not waits_for(world, found)
    world.store.advance(orders, 7, Drop())

    assert waiter.result(10).seq == 2


def test_the_pauses_grow_where_it_is_polled(engine: Engine, database_url: str) -> None:
    """From a second to five; somebody new begins anew."""
    machine = PostgresStore(engine).start(orders, 7, New(1)).id
    waiters, pauses = Waiters(), list[float | None]()
    with waiters.waiting(machine):
        waiter = Waiter(plain(database_url), waiters)
        waiter.watch._listens = False
        for nudged in (False, False, False, True, False):
            waiter._drive(waiter.watch.round())
            pauses.append(waiter.pause)
            waiter.watch.slept([], nudged=nudged)
        waiter.close()

    assert pauses == [1, 2, 4, 5, 1]


def test_anybody_may_notify_anything(world: PostgresWorld) -> None:
    """A notification is a hint: a false one makes the waiter look, and no more."""
    found = world.store.start(orders, 7, New(1)).id
    waiter = begun(world, orders, 7)

    for payload in ("", "rubbish", str(found)):
        world.sql("SELECT pg_notify(%s, %s)", ended_channel("fsm"), payload)
    eventually(lambda: waits_for(world, found), what="it waits on")
    world.store.advance(orders, 7, Drop())

    assert waiter.result(10).seq == 1
