"""A hundred thousand timers that are not due cost the relay nothing: counted in rows and pages, never in time."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, text

from fsm_core import ActionStatus
from fsm_core.delivery.finish import finish
from fsm_core.delivery.outcome import Completed, Result
from fsm_core.delivery.ports import Cursor
from fsm_core.delivery.relay import Relay
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.low_water import ALL
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.statements import Statement, relay
from fsm_core.registry import Registry
from tests.delivery.test_relay import QUEUES, FakeBroker
from tests.store.world import plain
from tests.waiting import eventually
from tests.workers.clock import Arm, Idle, clock

TIMERS = 100_000
DEEPER = 3
"""Pages by which one descent into an index may become longer: 100,000 entries make it two or three levels deep."""

ASKED: dict[str, tuple[Statement, dict[str, object]]] = {
    "window": (relay.WINDOW, {"queue": "default", "back": ALL}),
    "publish": (relay.PUBLISH, {"queue": "default", "n": 2000, "ticket": UUID(int=1), "back": ALL}),
    "next due": (relay.NEXT_DUE, {"queues": ["default", "other"]}),
    "blocked": (relay.BLOCKED, {}),
    "admit": (relay.ADMIT, Cursor()._asdict()),
    "overdue": (relay.OVERDUE, {"queues": ["default", "other"], "patience": timedelta(seconds=5)}),
    "requeue": (relay.REQUEUE_DEAD, {}),
}
"""What an idle relay asks, again and again."""

# Copies of the one armed machine and its timer, each due between a day and a year from now.
MULTIPLY = """
WITH one AS (SELECT * FROM fsm.machines), m AS (
  INSERT INTO fsm.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at)
  SELECT gen_random_uuid(), fsm, 'm' || n, version, status, state_name, state, seq, rev, created_at, updated_at
    FROM one, generate_series(1, :timers) n RETURNING id)
INSERT INTO fsm.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, timer, outcome, created_at,
                         run_at)
SELECT m.id, a.seq, a.idx, a.name, a.version, a.payload, a.tracked, a.status, a.queue, a.priority, a.timer, a.outcome, a.created_at,
       now() + interval '1 day' + random() * interval '364 days'
  FROM m, fsm.actions a"""


def armed(engine: Engine, *, timers: int) -> tuple[PostgresStore, UUID]:
    """A store with one timer that is due in a year, and `timers` more; the id of the first one's machine."""
    store = PostgresStore(engine, machines=[clock])
    started = store.start(clock, "first")
    store.advance(clock, "first", Arm(365 * 86_400, 1))
    with engine.begin() as connection:
        connection.execute(text(MULTIPLY), {"timers": timers})
    return store, started.id


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def plan_of(
    connection: psycopg.Connection[Any], statement: Statement, given: dict[str, object], mode: str
) -> dict[str, Any]:
    """How PostgreSQL ran the statement, prepared as the relay's own connections do; what it changed is rolled back."""
    names = list(given)
    prepared = re.sub(
        r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", statement.on("fsm")
    ).replace("%%", "%")
    values = sql.SQL(", ").join(map(sql.Literal, given.values()))
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("SET LOCAL plan_cache_mode = {}").format(sql.Identifier(mode)))
        connection.execute(f"PREPARE asked AS {prepared}".encode())
        execute = sql.SQL("EXECUTE asked ({})").format(values) if given else sql.SQL("EXECUTE asked")
        row = connection.execute(
            sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {}").format(execute)
        ).fetchone()
        connection.execute("DEALLOCATE asked")
    assert row is not None
    found: dict[str, Any] = row[0][0]["Plan"]
    return found


def pages(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        node for node in nodes(plan) if node.get("Relation Name") == "actions" and "Scan" in node["Node Type"]
    ]


def rows_read(plan: dict[str, Any]) -> int:
    """Rows of actions that were looked at, whether or not they were of use."""
    counted = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    return round(sum(node.get(what, 0) * node["Actual Loops"] for node in scans(plan) for what in counted))


def descents(plan: dict[str, Any]) -> int:
    """How often an index was gone into."""
    return int(sum(node["Actual Loops"] for node in nodes(plan) if "Index Name" in node))


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_what_is_not_due_is_not_read(engine: Engine, database_url: str, mode: str) -> None:
    """Each statement of an idle relay reads as many rows with 100,000 timers as with one, and no table from end to end.

    Of pages it reads more by what its way down the index is longer. With statistics, and before there are any.
    """
    armed(engine, timers=0)
    with psycopg.connect(plain(database_url), autocommit=True) as connection:
        alone = {name: plan_of(connection, *asked, mode) for name, asked in ASKED.items()}
        with engine.begin() as beside:
            beside.execute(text(MULTIPLY), {"timers": TIMERS})

        for analyze in (False, True):
            if analyze:
                connection.execute("ANALYZE fsm.actions, fsm.machines")
            for name, asked in ASKED.items():
                among = plan_of(connection, *asked, mode)
                told = f"{name}, analyzed: {analyze}: {among}"
                assert "Seq Scan" not in {node["Node Type"] for node in scans(among)}, told
                assert rows_read(among) <= rows_read(alone[name]), told
                assert pages(among) <= pages(alone[name]) + DEEPER * descents(among), told


def test_the_one_that_is_due_among_them_fires(engine: Engine) -> None:
    """The relay knows when, publishes it alone, and its event arrives; the others stay as they are."""
    store, first = armed(engine, timers=TIMERS)
    outbox, broker, registry = PostgresOutbox(engine), FakeBroker(), Registry([clock])
    step = Relay(outbox, broker, uuid4)
    waits = outbox.next_due(["default"])
    assert waits is not None
    assert waits > timedelta(hours=23)
    assert step.tick(QUEUES, admit=True).idle

    with engine.begin() as connection:
        soon = "UPDATE fsm.actions SET run_at = clock_timestamp() + interval '100 ms' WHERE machine_id = :id"
        connection.execute(text(soon), {"id": first})
    waits = outbox.next_due(["default"])
    assert waits is not None
    assert waits <= timedelta(milliseconds=100)
    eventually(lambda: step.tick(QUEUES, admit=True).published, what="the timer is published")

    (message,) = broker.sent
    (claim,) = outbox.claim(uuid4(), message.ids, message.ticket, uuid4())
    assert claim.id.machine_id == first
    assert len(finish(outbox, registry, [Result(claim, Completed())]).done) == 1
    assert store.get(clock, "first").state == Idle(1)
    assert step.tick(QUEUES, admit=True).idle
    with engine.connect() as connection:
        counts = dict(
            connection.execute(text("SELECT status, count(*) FROM fsm.actions GROUP BY status")).all()
        )
    assert counts == {ActionStatus.PENDING: TIMERS, ActionStatus.COMPLETED: 1}
