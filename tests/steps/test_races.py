"""The races that gen_durable met, each with its fix taken out once to see the test fail: the table of docs/steps.md.

Here are those that are about flows; what is about every machine is tested where it belongs, and named there.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from fsm_core.delivery.finish import finish, finish_alone
from fsm_core.delivery.outcome import Completed, Result
from fsm_core.delivery.ports import Claimed
from fsm_core.memory import MemoryStore
from fsm_core.memory.attempt import Runner
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.ask import Ask
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.registry import Registry
from fsm_core.steps import Await, Done, Next
from tests.steps.drive import Now
from tests.steps.flows import Data, Flow, Paid, flow, gives
from tests.store.family import Book, Booking, Open, leg, trip
from tests.waiting import eventually

MOST = 40


class Bench:
    """A store, and a worker that can be stopped between running a step and committing what it gave."""

    def __init__(self, engine: Engine, it: Flow) -> None:
        self.engine, self.it = engine, it
        self.store = PostgresStore(engine)
        self.outbox = PostgresOutbox(engine)
        self.registry = Registry([it.steps])

    def claimed(self) -> list[Claimed]:
        ticket = uuid4()
        ids = [row.id for row in self.outbox.publish("default", 100, ticket)]
        return self.outbox.claim(uuid4(), ids, ticket, uuid4())

    def ran(self) -> Result:
        """The one step that is due, run; nothing is committed yet."""
        (claimed,) = self.claimed()
        with Runner(self.registry, Now()) as runner:
            outcome = Completed() if claimed.outcome is not None else runner.run(claimed)
        return Result(claimed, outcome)

    def commit(self, result: Result) -> None:
        """As a worker does: in a group, then alone, until it is through."""
        finished = finish(self.outbox, self.registry, [result])
        while again := [*finished.alone, *finished.stuck]:
            finished = finish_alone(self.outbox, self.registry, again[0])
        assert finished.broken == []


def waiting(engine: Engine) -> int:
    """How many wait for a lock."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(asked).scalar_one())


@contextmanager
def crossed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, at: int, other: Callable[[], Any]
) -> Iterator[list[int]]:
    """Just before our statement number `at`, somebody else does `other` as far as it gets. Yields how many statements there were."""
    original, count, here = Ask.on, [0], threading.get_ident()
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:

        def on(ask: Ask[Any], *args: Any) -> Any:
            if threading.get_ident() == here:
                count[0] += 1
                if count[0] == at:
                    crossing = pool.submit(other)
                    eventually(
                        lambda: crossing.done() or waiting(bench.engine) > 0,
                        what="it is done, or waits for us",
                    )
                    if crossing.done():
                        crossing.result()
            return original(ask, *args)

        patch.setattr(Ask, "on", on)
        yield count


@pytest.mark.parametrize("first", ["worker", "signal"])
def test_a_signal_that_crosses_the_commit_of_an_await_wakes_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Race 1, the lost wake-up. Each side is stopped before each of its statements while the other goes as far as it can.

    Seen with the guard of `rev` taken out of the statement that writes a group: the signal is held, and the flow waits for
    ever. Seen with the held ones not offered after a result: the same.
    """
    it = flow()
    it.will("a", lambda data, ctx: Done({"got": len(ctx.signals)}) if ctx.signals else Await(Paid, data))
    bench, points = Bench(engine, it), 0
    for at in range(1, MOST):
        key = f"{first}-{at}"
        bench.store.start(it.steps, key, Next("a", Data()))
        result = bench.ran()

        def commit(result: Result = result) -> None:
            bench.commit(result)

        def signal(key: str = key) -> None:
            bench.store.signal(it.steps, key, Paid(1))

        ours, theirs = (commit, signal) if first == "worker" else (signal, commit)
        with crossed(bench, monkeypatch, at, theirs) as count:
            ours()
        if count[0] < at:
            theirs()
        now = bench.store.get(it.steps, key)
        assert isinstance(now.state, Next), f"lost before statement {at}"
        assert bench.store.record(it.steps, key).held == 0
        bench.commit(bench.ran())
        assert bench.store.get(it.steps, key).state == Done({"got": 1})
        points += 1
        if count[0] < at:
            break
    assert points > 2


def test_a_signal_before_the_birth_crosses_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same at the birth: one that begins with waiting is woken by what came for it before, or while it was born.

    Seen with a signal that takes it for kept when the row was there before its own: nobody has it, and the flow waits for ever.
    """
    it = flow()
    bench, points = Bench(engine, it), 0
    for at in range(1, MOST):
        key = f"k{at}"

        def start(key: str = key) -> None:
            bench.store.start(it.steps, key, Await(Paid, Data(), then="a"))

        with crossed(bench, monkeypatch, at, start) as count:
            bench.store.signal(it.steps, key, Paid(1))
        if count[0] < at:
            start()
        assert isinstance(bench.store.get(it.steps, key).state, Next), f"lost before statement {at}"
        points += 1
        if count[0] < at:
            break
    assert points > 1


def test_a_worker_that_was_taken_for_dead_changes_nothing(engine: Engine) -> None:
    """Race 11, the stale worker: its run was given to another one, and what it gave comes second, or first.

    Seen with the guard of the claim taken out: the flow goes on by both, and ends with what the dead one gave.
    """
    it = flow()
    bench = Bench(engine, it)
    for key, order in (("l", ("living", "dead")), ("d", ("dead", "living"))):
        it.will("a", gives(Done({"by": "dead"})), gives(Done({"by": "living"})))
        bench.store.start(it.steps, key, Next("a", Data()))
        dead = bench.ran()
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE fsm.actions SET status = 'pending', run_at = now() WHERE status = 'running'"
            )
        results = {"dead": dead, "living": bench.ran()}
        for who in order:
            finish(bench.outbox, bench.registry, [results[who]])

        assert bench.store.get(it.steps, key).state == Done({"by": "living"})
        assert len(bench.store.history(it.steps, key)) == 2


def test_waiting_again_with_what_was_shown_does_not_spin() -> None:
    """Race 14: a step that waits on with its pack unconsumed is woken by what it has not seen, and by nothing else.

    Seen with an `Await` that goes on at once while its pack is unconsumed, as gen_durable's did: `drain` ran to its limit.
    """
    it = flow()
    it.will("a", lambda data, ctx: Await(Paid, data) if len(ctx.signals) < 5 else Done())
    store = MemoryStore(it.steps)
    store.start(it.steps, "k", Next("a", Data()))
    for n in range(3):
        store.signal(it.steps, "k", Paid(n))

    assert store.drain(limit=100).ran == 4
    assert store.record(it.steps, "k").held == 0
    for n in (3, 4):
        store.signal(it.steps, "k", Paid(n))
    assert store.drain(limit=100).ran == 2
    assert store.get(it.steps, "k").status == "done"


def test_more_rows_than_a_statement_has_parameters(engine: Engine) -> None:
    """Race 3, the limit of 65,535 parameters: rows go as arrays, one parameter for each column."""
    ids = [uuid4() for _ in range(70_000)]

    assert PostgresOutbox(engine).read(ids) == {}

    with engine.connect() as connection, pytest.raises(OperationalError, match="65535"):
        connection.exec_driver_sql(f"SELECT 1 WHERE NULL IN ({', '.join(['%s'] * len(ids))})", tuple(ids))


def test_parents_that_bear_the_same_children_in_other_orders_cannot_wait_for_each_other(
    engine: Engine,
) -> None:
    """Race 17, the order of locks: rows are written in the order of their addresses, whatever the order in the code.

    Both are stopped in the middle of their births, behind a birth of a third. Seen with `ORDER BY` taken out of the
    statement that writes children: a deadlock.
    """
    store = PostgresStore(engine)
    for key in ("one", "two"):
        store.start(trip, key)

    def book(key: str, *keys: str) -> Callable[[], None]:
        def booked() -> None:
            with Session(engine) as session, session.begin():
                store.advance(trip, key, Book(("a", "b", "c"), 1, keys), session=session)

        return booked

    with ThreadPoolExecutor(2) as pool:
        with Session(engine) as third:
            for key in ("m-one", "m-two"):
                store.start(leg, key, Open("x"), session=third)
            both = [pool.submit(book("one", "x", "m-one", "y")), pool.submit(book("two", "y", "m-two", "x"))]
            eventually(lambda: waiting(engine) == 2, what="both wait for the third")
            third.rollback()
        for each in both:
            each.result(20)

    assert sorted(record.key for record in store.machines("leg")) == ["m-one", "m-two", "x", "y"]
    assert isinstance(store.get(trip, "one").state, Booking)
    assert isinstance(store.get(trip, "two").state, Booking)
