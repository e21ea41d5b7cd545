"""Of finito's five kinds of error those that a database makes, each provoked for real, with its context.

Source: finito-postgres, ErrorKind: Database, DBPool. The others are in the conformance suite.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import psycopg
import pytest

from examples.door import Close, Opened, door
from fsm_core.errors import DatabaseError, DatabaseUnavailable, PoolExhausted, SchemaError
from tests.store.conftest import MakeWorld
from tests.store.machines import New, Note, orders
from tests.store.world import WORLDS, PostgresWorld


def test_database_a_constraint_of_the_operators_own(world: PostgresWorld) -> None:
    """Message and sqlstate are the database's, context and address ours."""
    world.store.start(door, "front")
    world.sql("ALTER TABLE fsm.events ADD CONSTRAINT no_more CHECK (seq < 1)")
    before = world.contents()

    with pytest.raises(DatabaseError, match=r'^advance door/front: .*"no_more".* \(postgresql://') as caught:
        world.store.advance(door, "front", Close())

    assert (caught.value.sqlstate, caught.value.context) == ("23514", "advance door/front")
    assert isinstance(caught.value.__cause__, psycopg.errors.CheckViolation)
    assert world.contents() == before


def test_pool_no_connection_comes_free(make_world: MakeWorld) -> None:
    """A pool of one, whose connection waits for a lock: the second caller is told so, and at once when it is free again."""
    world = make_world(engine={"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.05})
    world.store.start(orders, 7, New(1))
    with psycopg.connect(world.url) as blocker:
        blocker.execute("SELECT 1 FROM fsm.machines FOR UPDATE")
        first = threading.Thread(target=world.store.advance, args=(orders, 7, Note()))
        first.start()
        try:
            while not blocker.execute(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            ).fetchall():
                blocker.execute("SELECT pg_stat_clear_snapshot()")
            with pytest.raises(PoolExhausted) as caught:
                world.store.get(orders, 7)
        finally:
            blocker.rollback()
            first.join()

    assert caught.value.context == "get orders/7"
    assert caught.value.where is not None
    assert caught.value.where.startswith("postgresql://")
    assert world.store.get(orders, 7).seq == 1


@pytest.mark.parametrize("kind", sorted(WORLDS))
def test_a_database_that_is_away_is_named_without_its_password(kind: str) -> None:
    """Server, port and database stand in the error; the password is masked."""
    with (
        WORLDS[kind]("postgresql+psycopg://app:s3cret@127.0.0.1:9/shop") as world,
        pytest.raises(DatabaseUnavailable) as caught,
    ):
        world.store.advance(door, "front", Close())

    assert caught.value.where == "postgresql://app:***@127.0.0.1:9/shop"
    assert str(caught.value).startswith("advance door/front: the database does not answer: ")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(WORLDS))
def test_a_database_without_tables_says_what_to_do(kind: str, empty_database_url: str) -> None:
    """`fsm migrate`."""
    with WORLDS[kind](empty_database_url) as world:
        for call in (lambda: world.store.start(door, "front"), lambda: world.store.get(door, "front")):
            with pytest.raises(SchemaError, match="run `fsm migrate`") as caught:
                call()
            assert caught.value.sqlstate == "42P01"


def test_a_role_without_the_privilege_is_a_database_error(
    open_world: Callable[..., AbstractContextManager[PostgresWorld]], world: PostgresWorld, database_url: str
) -> None:
    """The database's refusal, typed; nothing is written."""
    world.store.start(door, "front")
    world.sql(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fsm_reader') THEN"
        " CREATE ROLE fsm_reader; END IF; END $$"
    )
    world.sql("GRANT USAGE ON SCHEMA fsm TO fsm_reader")
    world.sql("GRANT SELECT ON ALL TABLES IN SCHEMA fsm TO fsm_reader")
    options = {"connect_args": {"options": "-c role=fsm_reader"}}
    with open_world(engine=options) as reader:
        assert reader.store.get(door, "front").state == Opened()
        with pytest.raises(DatabaseError, match="permission denied") as caught:
            reader.store.advance(door, "front", Close())

    assert caught.value.sqlstate == "42501"
    assert world.store.get(door, "front").seq == 0
