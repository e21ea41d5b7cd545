"""`advance_many` on PostgreSQL: in the caller's transaction, against others, and over a connection that breaks."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from fsm_core import Snapshot
from fsm_core.audit import fsck
from fsm_core.errors import MachineNotFound
from fsm_core.memory import MemoryStore
from fsm_core.postgres import PostgresStore
from tests.store.counters import Bump, notes
from tests.store.machines import Charging, Close, New, NothingToPay, Open, Pay, Serve, desk, orders


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    engine = create_engine(database_url, pool_size=10)
    store = PostgresStore(engine)
    for key in range(20):
        store.start(orders, key, New(5))
    store.start(orders, "poor", New(0))
    yield store
    engine.dispose()


def test_in_the_callers_transaction_all_are_committed_or_none(
    store: PostgresStore, database_url: str
) -> None:
    engine = create_engine(database_url)
    with Session(engine) as session, session.begin():
        answers = store.advance_many(orders, [(key, Pay()) for key in range(5)], session=session)
        assert [a.seq for a in answers if isinstance(a, Snapshot)] == [1] * 5
    assert isinstance(store.get(orders, 0).state, Charging)

    for events, error in (
        ([(6, Pay()), ("poor", Pay())], NothingToPay),
        ([(6, Pay()), ("x", Pay())], MachineNotFound),
    ):
        with Session(engine) as session, session.begin():
            with pytest.raises(error):
                store.advance_many(orders, events, session=session)
            assert store.advance_many(orders, [(7, Pay())], session=session)  # it lives on
            session.rollback()
    with Session(engine) as session:
        store.advance_many(orders, [(8, Pay())], session=session)
        session.rollback()
    assert store.get(orders, 6).seq == store.get(orders, 7).seq == store.get(orders, 8).seq == 0
    engine.dispose()


def test_callers_with_the_same_machines_in_other_orders_cannot_wait_for_each_other(
    store: PostgresStore, database_url: str
) -> None:
    """Locks are taken in the order of ids, whatever the order of the events."""
    engine = create_engine(database_url)
    gate = threading.Barrier(4)
    keys = list(range(20))

    def work(number: int) -> int:
        order = keys if number % 2 else keys[::-1]
        gate.wait(30)
        for _ in range(5):
            with Session(engine) as session, session.begin():
                store.advance_many(notes, [(key, Bump()) for key in order], session=session)
        return number

    for key in keys:
        store.start(notes, key)
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(work, range(4))) == [0, 1, 2, 3]
    assert {store.get(notes, key).seq for key in keys} == {20}
    engine.dispose()


def test_groups_that_overlap_lose_nothing(store: PostgresStore) -> None:
    """A machine that somebody else holds is left out of the group and done alone: no wait, no deadlock, no gap."""
    for key in range(20):
        store.start(notes, key)

    def work(number: int) -> int:
        order = list(range(20)) if number % 2 else list(range(20))[::-1]
        return sum(
            isinstance(a, Snapshot)
            for _ in range(10)
            for a in store.advance_many(notes, [(k, Bump()) for k in order])
        )

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(work, range(6))) == 6 * 10 * 20

    assert {store.get(notes, key).state.n for key in range(20)} == {60}
    for key in range(20):
        assert [e.seq for e in store.history(notes, key)] == list(range(61))


@pytest.mark.parametrize("in_session", [False, True])
@pytest.mark.parametrize(
    "events",
    [
        [Serve("early"), Open()],
        [Open(), Open(), Close()],
        [Open(), Serve("a"), Serve("last"), Serve("b"), Open()],
        [Serve("a"), Serve("b")],
    ],
)
def test_what_is_held_is_offered_to_those_that_come_with_it(
    store: PostgresStore, database_url: str, events: Sequence[Open | Close | Serve], *, in_session: bool
) -> None:
    """As if they came one by one: an event must not wait for an edge that was there long ago."""
    engine, alike = create_engine(database_url), MemoryStore()
    store.start(desk, 1)
    alike.start(desk, 1)
    pairs = [(1, event) for event in events]
    with Session(engine) as session, session.begin():
        answers = store.advance_many(desk, pairs, session=session if in_session else None)
    expected = alike.advance_many(desk, pairs)

    assert [(a.seq, a.held, a.state) for a in answers if isinstance(a, Snapshot)] == [
        (a.seq, a.held, a.state) for a in expected if isinstance(a, Snapshot)
    ]
    assert len(answers) == len(events)
    assert (store.get(desk, 1).seq, store.get(desk, 1).state) == (
        alike.get(desk, 1).seq,
        alike.get(desk, 1).state,
    )
    assert fsck(store.log(desk, 1), store.registry).findings == []
    engine.dispose()
