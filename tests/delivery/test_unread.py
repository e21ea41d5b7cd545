"""Live machines that nobody reads, as a process looks for them at its start."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import Engine, text

from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.statements.upcast import UNREAD
from tests.store.conformance.test_versions import V1, Paid, first
from tests.store.family import Open as Asking
from tests.store.family import leg, talker


@pytest.fixture
def outbox(engine: Engine) -> PostgresOutbox:
    store = PostgresStore(engine)
    store.start(first(), "a")
    store.start(leg, "l", Asking("rome"))
    store.start(talker, "t")
    return PostgresOutbox(engine)


def worker(outbox: PostgresOutbox, known: dict[str, list[int]]) -> UUID:
    made = uuid4()
    outbox.register(made, kind="node", host="here", pid=1, queues={}, known=known, lease=timedelta(minutes=1))
    return made


def test_what_neither_we_nor_a_living_worker_reads_is_named(outbox: PostgresOutbox) -> None:
    assert outbox.unread({}) == [("leg", 1), ("talker", 1), ("till", 1)]

    gone, _ = worker(outbox, {"leg": [1]}), worker(outbox, {"till": [2, 1]})
    assert outbox.unread({"talker": [1, 2]}) == []

    outbox.retire(gone)
    assert outbox.unread({"talker": [2]}) == [("leg", 1), ("talker", 1)]


def test_what_has_ended_needs_nobody(outbox: PostgresOutbox, engine: Engine) -> None:
    store = PostgresStore(engine)
    till = first()
    store.advance(till, "a", V1.Pay(5))
    store.advance(till, "a", Paid("r"))

    assert ("till", 1) not in outbox.unread({})


def test_no_machines_at_all(engine: Engine) -> None:
    assert PostgresOutbox(engine).unread({}) == []


def test_of_a_large_table_a_bounded_sample_is_looked_at(outbox: PostgresOutbox, engine: Engine) -> None:
    """About a thousand pages, whatever its size: what makes up a good part of the rows is found."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO fsm.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at)"
                " SELECT gen_random_uuid(), 'many', n::text, 1 + n % 2, 'live', 'S', jsonb_build_object('pad', repeat('x', 1000)), 0, 1,"
                " now(), now() FROM generate_series(1, 20000) n"
            )
        )
    pages, sampled = looked_at(engine)
    assert pages > 2500
    assert 500 < sampled < 1500

    found = outbox.unread({"many": [1]})

    assert ("many", 2) in found
    assert ("many", 1) not in found


def looked_at(engine: Engine) -> tuple[int, int]:
    """How many pages the table has, and how many the statement reads, by its plan."""
    pages = text("SELECT pg_relation_size('fsm.machines') / 8192")
    with engine.connect() as connection:
        size = connection.execute(pages).scalar_one()
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {UNREAD.on('fsm')}"
        (plan,) = driver.execute(explain.encode(), {"known": "{}"}).fetchone() or ([],)
        (scan,) = [node for node in nodes(plan[0]["Plan"]) if node["Node Type"] == "Sample Scan"]
    return size, scan["Shared Hit Blocks"] + scan["Shared Read Blocks"]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)
