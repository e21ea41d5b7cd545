"""A rejection changes nothing in Postgres: not one row of one table is even written again, and no sequence moves.

Source: PHASM, whose transition is fallible: `Err` leaves the state as it was.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from fsm_core import Machine, Rejected, To
from fsm_core.postgres import AsyncPostgresStore, PostgresStore
from tests.store.machines import Manned, New, Note, NothingToPay, Open, Pay, Serve, Tell, desk, orders
from tests.store.test_sessions import JOINS, Join
from tests.store.world import PostgresWorld, plain

RELATIONS = """
SELECT n.nspname, c.relname, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'm', 'S') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1, 2"""
"""Every table and sequence of the database that is not PostgreSQL's own, whatever it is called."""


def whole(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table with the transaction that wrote it and its place, and every sequence's value."""
    found = {}
    with psycopg.connect(plain(url)) as connection:
        for schema, name, kind in connection.execute(RELATIONS.encode()).fetchall():
            columns = "last_value, is_called" if kind == "S" else "t.ctid::text, t.xmin::text, t::text"
            query = sql.SQL("SELECT {} FROM {} t ORDER BY 1").format(
                sql.SQL(columns), sql.Identifier(schema, name)
            )
            found[f"{schema}.{name}"] = connection.execute(query).fetchall()
    return found


@dataclass(frozen=True)
class Fresh:
    asked: int = 0


@dataclass(frozen=True)
class Go:
    pass


choosy = Machine("choosy", states=Fresh, events=Go, actions=Tell)


@choosy.enter
def never(_state: Fresh) -> list[Tell]:
    raise Rejected("not today")


@choosy.on
def go(state: Fresh, _event: Go) -> To[Fresh, Tell]:
    return state, [Tell("went")]


Call = Callable[..., Any]
"""A call on a store, with the options of the way in which it is made."""

REJECTED: dict[str, Call] = {
    "advance": lambda store, **way: store.advance(orders, 7, Pay(), **way),
    "advance with a dedup key": lambda store, **way: store.advance(orders, 7, Pay(), dedup_key="new", **way),
    "advance at a seq": lambda store, **way: store.advance(orders, 7, Pay(), expected_seq=1, **way),
    "start": lambda store, **way: store.start(choosy, 1, Fresh(), **way),
    "start without a key": lambda store, **way: store.start(choosy, None, Fresh(), **way),
    "advance beside held events": lambda store, **way: store.advance(desk, 1, Serve("rude"), **way),
    "the same with a dedup key": lambda store, **way: store.advance(
        desk, 1, Serve("rude"), dedup_key="new", **way
    ),
}


def prepared(store: Any) -> None:
    """Rows in every table that a verb writes: an order with actions and a dedup key, a desk that holds an event."""
    store.start(orders, 7, New(0))
    store.advance(orders, 7, Note(), dedup_key="old")
    store.start(desk, 1)
    store.advance(desk, 1, Open())
    store.advance(desk, 1, Open(), dedup_key="held")  # a manned desk holds it
    assert store.record(desk, 1).held == 1


@pytest.mark.parametrize("case", sorted(REJECTED))
def test_in_a_transaction_of_its_own(world: PostgresWorld, case: str) -> None:
    """The transition's own error arrives, and the database is the same down to the row versions."""
    prepared(world.store)
    before = whole(world.url)
    assert {"fsm.machines", "fsm.inbox", "fsm.inbox_pos_seq", "fsm.dedup"} <= set(before)

    with pytest.raises(Rejected):
        REJECTED[case](world.store)

    assert whole(world.url) == before


@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("case", sorted(REJECTED))
def test_in_a_callers_transaction_that_is_committed(
    engine: Engine, database_url: str, join: Join, case: str
) -> None:
    """The caller's own row is there, and nothing else has changed."""
    store = PostgresStore(engine)
    prepared(store)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mine (n int)"))
    before = whole(database_url)

    with join(engine) as joined:
        joined.run("INSERT INTO mine VALUES (1)")
        with pytest.raises(Rejected):
            REJECTED[case](store, session=joined.session)
        joined.run("INSERT INTO mine VALUES (2)")
        joined.commit()

    after = whole(database_url)
    assert [row[2] for row in after.pop("public.mine")] == ["(1)", "(2)"]
    assert before.pop("public.mine") == []
    assert after == before


@pytest.mark.parametrize("case", sorted(REJECTED))
async def test_in_an_async_callers_transaction_that_is_committed(
    async_engine: AsyncEngine, engine: Engine, database_url: str, case: str
) -> None:
    prepared(PostgresStore(engine))
    before = whole(database_url)

    async with AsyncSession(async_engine) as session, session.begin():
        with pytest.raises(Rejected):
            await REJECTED[case](AsyncPostgresStore(async_engine), session=session)

    assert whole(database_url) == before


def test_a_rejected_dedup_key_is_free(world: PostgresWorld) -> None:
    """The call never happened: under the same key another event, or the same one later, is the first."""
    world.store.start(orders, 7, New(0))
    with pytest.raises(NothingToPay):
        world.store.advance(orders, 7, Pay(), dedup_key="evt-1")

    now = world.store.advance(orders, 7, Note(), dedup_key="evt-1")

    assert (now.seq, now.duplicate) == (1, False)


def test_a_rejection_in_between_leaves_what_the_caller_did_before_and_after(engine: Engine) -> None:
    """One transaction, three events of one machine: the refused one leaves no gap in the log."""
    store = PostgresStore(engine)
    store.start(desk, 1)
    with Session(engine) as session, session.begin():
        store.advance(desk, 1, Open(), session=session)
        with pytest.raises(Rejected):
            store.advance(desk, 1, Serve("rude"), session=session)
        store.advance(desk, 1, Serve("ann"), session=session)

    assert store.get(desk, 1).state == Manned(("ann",))
    assert [(e.seq, e.name) for e in store.history(desk, 1)] == [(0, "Closed"), (1, "Open"), (2, "Serve")]


def test_what_is_compared_sees_a_row_that_is_written_again_and_a_sequence_that_moves(
    engine: Engine, database_url: str
) -> None:
    """The measure itself: a write that changes no value, and a number drawn and thrown away, are seen."""
    prepared(PostgresStore(engine))
    before = whole(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE fsm.machines SET rev = rev WHERE key = '7'"))
        connection.execute(text("SELECT nextval('fsm.inbox_pos_seq')"))

    after = whole(database_url)

    assert {name for name in before if before[name] != after[name]} == {"fsm.machines", "fsm.inbox_pos_seq"}
