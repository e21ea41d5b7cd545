"""`fsm stats`: what it counts, and that it reads no table from end to end."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine

from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.statements import Statement
from fsm_core.postgres.statements import doctor as statements
from tests.cli.machines import Counting, Kick, turnstile
from tests.cli.support import Fsm
from tests.delivery.calls import Make, calls
from tests.delivery.test_many_timers import nodes, plan_of, rows_read, scans
from tests.store.world import plain

LEASE = timedelta(minutes=5)
MANY = 40_000


@pytest.fixture
def sql(database_url: str) -> Callable[..., None]:
    def run(statement: str, *given: object) -> None:
        with psycopg.connect(plain(database_url), autocommit=True) as connection:
            connection.execute(statement.encode(), given or None)

    return run


@pytest.fixture
def outbox(engine: Engine) -> PostgresOutbox:
    """A relay, a worker of four slots, of which two serve `slow`, and one that is dead."""
    outbox = PostgresOutbox(engine)
    outbox.register(uuid4(), kind="relay", host="a", pid=1, queues={}, known={}, lease=LEASE)
    outbox.register(
        uuid4(), kind="node", host="b", pid=2, queues={"default": 4, "slow": 2}, known={}, lease=LEASE
    )
    gone = uuid4()
    outbox.register(gone, kind="node", host="c", pid=3, queues={"default": 9}, known={}, lease=LEASE)
    outbox.retire(gone)
    return outbox


def test_an_empty_installation(fsm: Fsm) -> None:
    status, out, err = fsm("stats")

    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "no machines", "", "no queues", "",
        "0 failed actions, 0 of them in the last hour",
        "attempts that went wrong in the last hour: error 0, lost 0, timed_out 0",
        "0 workers alive with 0 slots, 0 relays",
    ]  # fmt: skip


def test_everything_is_counted(
    fsm: Fsm, store: PostgresStore, outbox: PostgresOutbox, sql: Callable[..., None]
) -> None:
    """Machines by status, rows by queue, failures of the last hour, and who is alive."""
    for key in range(3):
        store.start(turnstile, key, Counting())
    store.advance(turnstile, 0, Kick())
    store.cancel(turnstile, 1)
    store.start(calls, "m")
    store.advance(calls, "m", Make(4, limit=None))
    store.advance(calls, "m", Make(2, limit=None, queue="slow"))
    ticket = uuid4()
    published = outbox.publish("default", 2, ticket)
    outbox.claim(uuid4(), [published[0].id], ticket, uuid4())
    sql("UPDATE fsm.actions SET run_at = now() - interval '90 s' WHERE queue = 'slow'")
    sql(
        "UPDATE fsm.actions SET status = 'failed', finished_at = now() WHERE status = 'pending' AND queue = 'default'"
    )
    sql("UPDATE fsm.actions SET finished_at = now() - interval '2 h' WHERE status = 'failed' AND idx = 2")
    sql("INSERT INTO fsm.attempts (machine_id, seq, idx, token, attempt, started_at, ended_at, outcome)"
        " SELECT gen_random_uuid(), 1, 0, gen_random_uuid(), 1, now(), now() - n * interval '40 min', 'lost' FROM generate_series(0, 2) n")  # fmt: skip

    found = fsm("stats", "--json").json

    none = {"unborn": 0, "live": 0, "done": 0, "failed": 0, "cancelled": 0, "estimated": False}
    assert found["machines"] == [
        {"machine": "calls", **none, "live": 1},
        {"machine": "turnstile", **none, "live": 1, "done": 1, "cancelled": 1},
    ]
    default, slow = found["queues"]
    assert 90 <= slow.pop("oldest_due_seconds") < 600
    assert 0 <= default.pop("oldest_published_seconds") < 600
    assert default == {
        "queue": "default", "due": 0, "oldest_due_seconds": None, "published": 1, "running": 1, "slots": 4,
    }  # fmt: skip
    assert slow == {
        "queue": "slow", "due": 2, "published": 0, "oldest_published_seconds": None, "running": 0, "slots": 2,
    }  # fmt: skip
    assert (found["failed_actions"], found["failed_actions_last_hour"]) == (2, 1)
    assert found["attempts_last_hour"] == {"error": 0, "lost": 2, "timed_out": 0, "estimated": False}
    assert [(each["kind"], each["where"]) for each in found["processes"]] == [
        ("node", "b (pid 2)"),
        ("relay", "a (pid 1)"),
    ]
    out = fsm("stats").out
    assert "1 worker alive with 4 slots, 1 relay\n" in out
    assert "2 failed actions, 1 of them in the last hour\n" in out
    assert [line.split() for line in out.splitlines()[:3]] == [
        ["machine", "unborn", "live", "done", "failed", "cancelled"],
        ["calls", "0", "1", "0", "0", "0"],
        ["turnstile", "0", "1", "1", "0", "1"],
    ]


# What it costs

MULTIPLY_MACHINES = """
INSERT INTO fsm.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at, ended_at)
SELECT gen_random_uuid(), fsm, n::text, version, CASE WHEN mod(n, 4) = 0 THEN 'done' ELSE 'live' END, state_name, jsonb_build_object('pad', repeat('x', 200)), seq, rev,
       created_at, updated_at, CASE WHEN mod(n, 4) = 0 THEN now() END
  FROM fsm.machines, generate_series(1, %s) n WHERE key = 'm'"""

MULTIPLY_ACTIONS = """
INSERT INTO fsm.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, lane, limit_name, limit_key,
                         created_at, run_at, token, published_at, finished_at)
SELECT gen_random_uuid(), seq, idx, name, version, payload, tracked, status, queue, priority, CASE k WHEN 3 THEN 'key:x' END,
       CASE WHEN k > 3 THEN 'api' END, CASE WHEN k > 3 THEN 'a' END, created_at, run_at + n * interval '1 s', gen_random_uuid(), now(),
       CASE WHEN status IN ('completed', 'failed') THEN now() END
  FROM (SELECT n, mod(n, 7) AS k, (ARRAY['completed', 'pending', 'published', 'blocked', 'blocked', 'failed', 'completed'])[1 + mod(n, 7)] AS status
          FROM generate_series(1, %s) n) made,
       (SELECT machine_id, seq, idx, name, version, payload, tracked, queue, priority, created_at, run_at FROM fsm.actions) one"""


@pytest.fixture
def crowd(
    store: PostgresStore, sql: Callable[..., None], database_url: str
) -> Callable[[Statement], dict[str, Any]]:
    """Many machines and rows, with statistics; gives the plan of a statement as it ran."""
    store.start(calls, "m")
    store.advance(calls, "m", Make(limit=None))
    sql(MULTIPLY_MACHINES, MANY)
    sql(MULTIPLY_ACTIONS, MANY)
    sql("ANALYZE fsm.machines, fsm.actions")

    def plan(statement: Statement, given: dict[str, object]) -> dict[str, Any]:
        with psycopg.connect(plain(database_url), autocommit=True) as connection:
            return plan_of(connection, statement, given, "force_generic_plan")

    return plan


ASKED: tuple[tuple[Statement, dict[str, object], int], ...] = (
    (statements.QUEUES, {"most": 100}, 250),
    (statements.LANES, {"patience": timedelta(0)}, 1100),
    (statements.UNSET, {}, 20),
    (statements.LOST, {}, 0),
    (statements.FAILED, {"most": 100}, 100),
)
"""What is asked of the actions, and how many of their rows it may read."""


def test_what_there_is_much_of_is_not_read_to_its_end(crowd: Callable[..., dict[str, Any]]) -> None:
    """Among 40,000 actions each statement reads about as many rows as it may count, and no table from end to end."""
    for statement, given, most in ASKED:
        plan = crowd(statement, given)

        told = f"{statement.name}: {plan}"
        assert "Seq Scan" not in {node["Node Type"] for node in scans(plan)}, told
        assert rows_read(plan) <= most, told


def test_machines_are_estimated_from_a_sample(crowd: Callable[..., dict[str, Any]], fsm: Fsm) -> None:
    """Of 40,000 about a thousand pages are read; their names come from the index alone."""
    plan = crowd(statements.MACHINES, {})

    of_machines = [node for node in nodes(plan) if node.get("Relation Name") == "machines"]
    counted = [node for node in of_machines if node["Node Type"] == "Sample Scan"]
    assert {node["Node Type"] for node in of_machines} <= {"Sample Scan", "Index Only Scan", "Seq Scan"}
    assert all(node["Actual Rows"] == 1 for node in of_machines if node["Node Type"] == "Seq Scan")
    assert sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in counted) < 1300
    (found,) = fsm("stats", "--json").json["machines"]
    assert found["estimated"]
    assert found["live"] == pytest.approx(MANY * 0.75, rel=0.2)
    assert found["done"] == pytest.approx(MANY * 0.25, rel=0.2)
    assert re.search(r"^calls +~0 +~\d\d,\d{3} ", fsm("stats").out, re.MULTILINE)
