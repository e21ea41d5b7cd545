"""The caller's own transaction, synchronous: both commit, or neither."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from examples.door import Close, Closed, Lock, Open, Opened, door
from fsm_core import UnhandledEvent
from fsm_core.errors import (
    DatabaseUnavailable,
    FsmError,
    Rejected,
    SerializationConflict,
    UnsupportedConnection,
)
from fsm_core.postgres import PostgresStore
from tests.store.machines import Charged, New, Pay, orders
from tests.store.world import plain


@dataclass
class Joined:
    """A caller's transaction, whatever it is made of."""

    session: Any
    run: Callable[[str], Any]
    commit: Callable[[], Any]
    rollback: Callable[[], Any]


@contextmanager
def by_session(engine: Engine) -> Iterator[Joined]:
    with Session(engine) as session:
        yield Joined(session, lambda s: session.execute(text(s)), session.commit, session.rollback)


@contextmanager
def by_scoped_session(engine: Engine) -> Iterator[Joined]:
    session = scoped_session(sessionmaker(engine))
    try:
        yield Joined(session, lambda s: session.execute(text(s)), session.commit, session.rollback)
    finally:
        session.remove()


@contextmanager
def by_connection(engine: Engine) -> Iterator[Joined]:
    with engine.connect() as connection:
        yield Joined(
            connection, lambda s: connection.execute(text(s)), connection.commit, connection.rollback
        )


@contextmanager
def by_psycopg(engine: Engine) -> Iterator[Joined]:
    with psycopg.connect(plain(str(engine.url))) as connection:
        yield Joined(
            connection, lambda s: connection.execute(s.encode()), connection.commit, connection.rollback
        )


@contextmanager
def by_autocommit_in_transaction(engine: Engine) -> Iterator[Joined]:
    """As Django has it: autocommit, with BEGIN and COMMIT of its own."""
    with psycopg.connect(plain(str(engine.url)), autocommit=True) as connection:
        connection.execute("BEGIN")
        yield Joined(
            connection,
            lambda s: connection.execute(s.encode()),
            lambda: connection.execute("COMMIT"),
            lambda: connection.execute("ROLLBACK"),
        )


Join = Callable[[Engine], AbstractContextManager[Joined]]
JOINS: list[Join] = [by_session, by_scoped_session, by_connection, by_psycopg, by_autocommit_in_transaction]


@pytest.fixture
def store(engine: Engine) -> PostgresStore:
    """A store, with a table of the application beside it."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mine (n int CHECK (n > 0))"))
    return PostgresStore(engine)


def mine(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return [row[0] for row in connection.execute(text("SELECT n FROM mine ORDER BY n"))]


@pytest.mark.parametrize("join", JOINS)
def test_both_are_committed_together(store: PostgresStore, engine: Engine, join: Join) -> None:
    """Nobody sees the machine or the row before the caller's COMMIT; then both are there."""
    store.start(door, "front")
    with join(engine) as joined:
        joined.run("INSERT INTO mine VALUES (1)")
        assert store.start(door, "back", session=joined.session).seq == 0
        assert store.advance(door, "front", Close(), session=joined.session, dedup_key="evt-1").seq == 1
        assert store.advance(door, "front", Lock(1), session=joined.session).seq == 2
        assert store.get(door, "front").seq == 0
        assert mine(engine) == []
        joined.commit()

    assert mine(engine) == [1]
    assert (store.get(door, "front").seq, store.get(door, "back").seq) == (2, 0)
    assert len(store.actions(machine="door")) == 4
    assert store.advance(door, "front", Close(), dedup_key="evt-1").duplicate


@pytest.mark.parametrize("join", JOINS)
def test_neither_is_committed(store: PostgresStore, engine: Engine, join: Join) -> None:
    """What the caller rolls back never happened."""
    store.start(door, "front")
    with join(engine) as joined:
        joined.run("INSERT INTO mine VALUES (1)")
        store.start(door, "back", session=joined.session)
        store.advance(door, "front", Close(), session=joined.session)
        joined.rollback()

    assert mine(engine) == []
    assert store.get(door, "front").seq == 0
    assert [m.key for m in store.machines()] == ["front"]


@pytest.mark.parametrize("join", JOINS)
def test_a_refusal_leaves_the_callers_transaction_alive(
    store: PostgresStore, engine: Engine, join: Join
) -> None:
    """Refusals are found by reading: no statement fails, and the caller's own rows are committed."""
    store.start(door, "front")
    store.start(orders, 7, New(0))
    store.advance(door, "front", Close(), dedup_key="evt-1")
    with join(engine) as joined:
        joined.run("INSERT INTO mine VALUES (1)")
        refusals: list[Callable[[], object]] = [
            lambda: store.advance(orders, 7, Pay(), session=joined.session),
            lambda: store.advance(door, "none", Close(), session=joined.session),
            lambda: store.advance(door, "front", Open(), session=joined.session, dedup_key="evt-1"),
            lambda: store.advance(door, "front", Open(), session=joined.session, expected_seq=9),
            lambda: store.advance(door, "front", Lock(10**5_000), session=joined.session),
            lambda: store.start(orders, 8, New("x"), session=joined.session),  # type: ignore[arg-type]
        ]
        for refused in refusals:
            with pytest.raises(FsmError):
                refused()
        assert store.start(door, "front", session=joined.session).duplicate
        joined.run("INSERT INTO mine VALUES (2)")
        joined.commit()

    assert mine(engine) == [1, 2]
    assert store.get(door, "front").seq == 1


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_machine_that_changed_since_the_callers_snapshot_is_a_conflict(
    store: PostgresStore, engine: Engine, level: Any
) -> None:
    """Never decided on the past, and never retried by us: it is the caller's transaction."""
    store.start(door, "front")
    with Session(engine.execution_options(isolation_level=level)) as session:
        assert session.scalar(text("SELECT count(*) FROM mine")) == 0
        store.advance(door, "front", Close())
        with pytest.raises(SerializationConflict) as caught:
            store.advance(door, "front", Open(), session=session)

    assert caught.value.sqlstate == "40001"
    assert caught.value.context == "advance door/front"
    assert store.get(door, "front").state == Closed()


def test_a_machine_that_was_born_since_the_callers_snapshot_is_a_conflict(
    store: PostgresStore, engine: Engine
) -> None:
    """A start under REPEATABLE READ cannot see it, and must not say that it started it."""
    with Session(engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        session.execute(text("SELECT 1 FROM mine"))
        store.start(door, "front")
        with pytest.raises(SerializationConflict):
            store.start(door, "front", session=session)


def test_an_unchanged_machine_is_fine_under_repeatable_read(store: PostgresStore, engine: Engine) -> None:
    """The level alone is no obstacle."""
    store.start(door, "front")
    with Session(engine.execution_options(isolation_level="REPEATABLE READ")) as session, session.begin():
        store.advance(door, "front", Close(), session=session)

    assert store.get(door, "front").seq == 1


def test_autocommit_without_a_transaction_is_refused(store: PostgresStore, engine: Engine) -> None:
    """Two statements would be two transactions. The connection is left as it was given."""
    store.start(door, "front")
    with (
        psycopg.connect(plain(str(engine.url)), autocommit=True) as connection,
        pytest.raises(UnsupportedConnection, match="in autocommit and in no transaction; begin one first"),
    ):
        store.advance(door, "front", Close(), session=connection)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        with pytest.raises(UnsupportedConnection, match="in autocommit"):
            store.advance(door, "front", Close(), session=connection)
        assert not connection.in_transaction()

    assert store.get(door, "front").state == Opened()


def test_another_driver_is_refused_by_name(store: PostgresStore) -> None:
    """One clear error that says what was given, what is beneath it, and what to give; the session is left as it was."""
    store.start(door, "front")
    lite = create_engine("sqlite://")
    with Session(lite) as session:
        with pytest.raises(
            UnsupportedConnection,
            match=r"Session, which ends at sqlite3.Connection; give a Session, .* psycopg 3",
        ):
            store.advance(door, "front", Close(), session=session)
        assert not session.in_transaction()
    lite.dispose()
    raw = sqlite3.connect(":memory:")
    with pytest.raises(UnsupportedConnection, match=r"session= is sqlite3.Connection; give"):
        store.advance(door, "front", Close(), session=raw)  # type: ignore[arg-type]
    raw.close()


def test_an_engine_of_another_driver_is_refused() -> None:
    """Where the store is made, not at its first use."""
    with pytest.raises(
        UnsupportedConnection, match=r"the engine's driver is pysqlite; create it with postgresql\+psycopg://"
    ):
        PostgresStore(create_engine("sqlite://"))


def test_a_session_whose_database_is_away_is_unavailable(store: PostgresStore) -> None:
    """Not an error of SQLAlchemy."""
    away = create_engine("postgresql+psycopg://nobody@127.0.0.1:9/none")
    with Session(away) as session, pytest.raises(DatabaseUnavailable):
        store.advance(door, "front", Close(), session=session)
    away.dispose()


def test_the_pooled_connection_is_given_back_as_it_was(database_url: str) -> None:
    """After our autocommit the application's next transaction on the same connection rolls back as it should."""
    engine = create_engine(database_url, pool_size=1, max_overflow=0)
    store = PostgresStore(engine)
    with engine.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    store.start(door, "front")
    with pytest.raises(UnhandledEvent):
        store.advance(orders, store.start(orders, state=New(1)).key, Charged("r"))
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE t ()"))
        connection.rollback()
        assert connection.scalar(text("SELECT to_regclass('t')")) is None
        assert connection.scalar(text("SHOW lock_timeout")) == "0"
        assert connection.scalar(text("SELECT pg_backend_pid()")) == pid
    engine.dispose()


def test_a_rejection_in_the_callers_transaction_is_the_callers_to_handle(
    store: PostgresStore, engine: Engine
) -> None:
    """It arrives as raised, inside the transaction."""
    store.start(orders, 7, New(0))
    with Session(engine) as session, pytest.raises(Rejected, match="nothing to pay"):
        store.advance(orders, 7, Pay(), session=session)
