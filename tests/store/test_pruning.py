"""Pruning on PostgreSQL: in slices, each all or nothing, past whoever holds a lock, and by indexes only."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine

from fsm_core.delivery.retention import KEEP_ALL, SOON, Keeper, Pruned, Retention
from fsm_core.errors import DatabaseError
from fsm_core.postgres.flows import prune as flows
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.statements import Statement
from fsm_core.postgres.statements import prune as sql
from tests.store.aging import finish, grow_old
from tests.store.machines import Drop, New, Note, Serve, desk, orders
from tests.store.world import PostgresWorld, sync_world
from tests.waiting import eventually

MONTH, YEAR = timedelta(days=30), timedelta(days=365)
BOTH = Retention(MONTH, YEAR)


def over(world: PostgresWorld, *keys: Any, days: float = 40) -> None:
    for key in keys:
        world.store.start(orders, key, New(1))
        world.store.advance(orders, key, Note())
        world.store.advance(orders, key, Drop())
    finish(world)
    grow_old(world, days)


@pytest.mark.parametrize(("machines", "events"), [(2, 5000), (500, 4)])
def test_it_goes_in_slices(
    world: PostgresWorld, monkeypatch: pytest.MonkeyPatch, machines: int, events: int
) -> None:
    """Of so many machines, or with about so many events, whichever comes first."""
    monkeypatch.setattr(flows, "SLICE_MACHINES", machines)
    monkeypatch.setattr(flows, "SLICE_EVENTS", events)
    over(world, *range(5))
    slices: list[Pruned] = []
    details = flows.details

    async def watched(age: timedelta) -> Pruned:
        slices.append(await details(age))
        return slices[-1]

    monkeypatch.setattr(flows, "details", watched)

    assert world.store.prune(Retention(MONTH)).machines == 5
    assert [each.machines for each in slices] == [2, 2, 1, 0]


@pytest.mark.parametrize("broken", ["SNAPSHOT", "CUT", "MARK", "FORGET"])
def test_what_breaks_in_the_middle_of_a_slice_changes_nothing_of_it(
    world: PostgresWorld, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """And the next call finds what is left to do."""
    over(world, 7, days=400)
    retention = Retention(whole=YEAR) if broken != "FORGET" else BOTH
    if broken == "FORGET":
        world.store.prune(Retention(MONTH))
    before = world.contents()
    with monkeypatch.context() as patch:
        patch.setattr(sql, broken, Statement(broken, "SELECT 1 / 0"))
        with pytest.raises(DatabaseError):
            world.store.prune(retention)

    assert world.contents() == before
    assert world.store.prune(BOTH).forgotten == 1


def test_who_holds_a_machine_is_not_waited_for(world: PostgresWorld) -> None:
    """It is left for the next time; the others are pruned."""
    over(world, 7, 8)
    with psycopg.connect(world.url) as connection:
        connection.execute("SELECT 1 FROM fsm.machines WHERE key = '7' FOR NO KEY UPDATE")
        assert world.store.prune(BOTH).machines == 1
    assert world.store.prune(BOTH).machines == 1


def test_an_action_that_an_operator_is_retrying_stays(world: PostgresWorld) -> None:
    """Its row is locked: it is not waited for, and not deleted."""
    over(world, 7)
    with psycopg.connect(world.url) as connection:
        connection.execute("SELECT 1 FROM fsm.actions WHERE idx = 1 FOR NO KEY UPDATE")
        assert world.store.prune(BOTH) == Pruned(machines=1, events=2, actions=1)
    assert [a.id.idx for a in world.store.actions()] == [1]


def test_a_machine_whose_action_is_being_retried_is_not_forgotten(world: PostgresWorld) -> None:
    """Its last failure stayed when it was pruned; whoever locks that row is not waited for."""
    over(world, 7)
    finish(world, 1, status="failed", error="{}")
    grow_old(world, 400)
    world.store.prune(Retention(MONTH))
    with psycopg.connect(world.url) as connection:
        connection.execute("SELECT 1 FROM fsm.actions FOR NO KEY UPDATE")
        assert world.store.prune(BOTH).forgotten == 0
    assert world.store.prune(BOTH).forgotten == 1


def test_several_at_once_share_the_work(world: PostgresWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "SLICE_MACHINES", 3)
    over(world, *range(20), days=400)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: world.store.prune(BOTH), range(4)))
    total = Pruned()
    for each in (*done, world.store.prune(BOTH)):
        total = total.plus(each)

    assert (total.machines, total.forgotten, total.events, total.actions) == (20, 20, 60, 40)
    assert not any(world.contents().values())


# A machine that is not born


def test_a_signal_that_comes_before_the_pruning_is_kept(world: PostgresWorld) -> None:
    """The machine is locked by who signals: it is skipped, and then there is something to wait with."""
    world.store.signal(desk, "d", Serve("ann"), ttl=timedelta(days=1))
    grow_old(world, 2)
    with sync_world(world.url) as other, psycopg.connect(world.url) as connection:
        other.store.signal(desk, "d", Serve("bob"), session=connection)
        assert world.store.prune(KEEP_ALL) == Pruned()
        connection.commit()

    assert world.store.prune(KEEP_ALL) == Pruned(held=1)
    assert [row["dedup_key"] for row in world.contents()["inbox"]] == [None]


@pytest.mark.parametrize("comes", ["a start", "a signal"])
def test_what_waits_for_the_pruning_begins_anew(world: PostgresWorld, comes: str) -> None:
    """The row that it saw is gone when the lock is free: it is as if it had never been there."""
    first = world.store.signal(desk, "d", Serve("ann"), ttl=timedelta(days=1))
    grow_old(world, 2)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(world.url) as connection:
        connection.execute(sql.LOCK_EXPIRED.on("fsm").encode(), {"limit": 1})
        connection.execute(sql.EXPIRE.on("fsm").encode(), {"ids": [first.id]})
        if comes == "a start":
            crossing = pool.submit(world.store.start, desk, "d")
        else:
            crossing = pool.submit(world.store.signal, desk, "d", Serve("bob"))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        eventually(lambda: world.sql(waits)[0][0] or crossing.done(), what="it waits for the lock")
        connection.commit()
        answer = crossing.result(20)

    assert not answer.duplicate
    assert answer.id != first.id
    assert [row["id"] for row in world.contents()["machines"]] == [answer.id]


# By indexes


MANY = """
INSERT INTO fsm.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at, ended_at, pruned)
SELECT md5(n::text)::uuid, 'orders', n::text, 1, CASE WHEN n % 4 = 0 THEN 'live' ELSE 'done' END, 'New', '{}', 2, 3, t.at, t.at,
       CASE WHEN n % 4 > 0 THEN t.at END, n % 4 = 2
  FROM generate_series(1, 20000) n, LATERAL (SELECT now() - (n % 1000 + n / 20000.0) * interval '1 day' AS at) t;
INSERT INTO fsm.events (machine_id, seq, name, payload, version, outcome, source, occurred_at)
SELECT m.id, s, 'Note', '{}', 1, 'applied', 'call', m.updated_at FROM fsm.machines m, generate_series(0, 2) s;
INSERT INTO fsm.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, created_at, run_at, finished_at)
SELECT m.id, s, 0, 'Charge', 1, '{}', true, 'completed', 'default', 5, m.updated_at, m.updated_at, m.updated_at
  FROM fsm.machines m, generate_series(0, 2) s;
INSERT INTO fsm.attempts (machine_id, seq, idx, token, attempt, started_at, ended_at, outcome)
SELECT a.machine_id, a.seq, a.idx, gen_random_uuid(), 1, a.run_at, a.run_at, 'error' FROM fsm.actions a;
INSERT INTO fsm.inbox (machine_id, name, payload, version, source, received_at, expires_at)
SELECT m.id, 'Note', '{}', 1, 'call', now(), CASE WHEN m.key::int % 50 = 0 THEN m.updated_at END FROM fsm.machines m;
INSERT INTO fsm.snapshots (machine_id, seq, version, state_name, state) SELECT m.id, 1, 1, 'New', '{}' FROM fsm.machines m;
INSERT INTO fsm.dedup (machine_id, key, digest, seq, at) SELECT m.id, 'evt-1', '\\x00', 1, now() FROM fsm.machines m;
ANALYZE;
"""


def scanned(plan: Any) -> list[str]:
    """The tables that a plan reads whole."""
    found = [plan["Relation Name"]] if plan["Node Type"] == "Seq Scan" else []
    return found + [name for below in plan.get("Plans", []) for name in scanned(below)]


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
def test_no_statement_reads_a_whole_table(engine: Engine, database_url: str, generic: bool) -> None:
    """Also as it is planned once for all values, which is how a relay runs it."""
    url = database_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(MANY.encode())
        ids = [
            row[0] for row in connection.execute("SELECT id FROM fsm.machines ORDER BY ended_at LIMIT 500")
        ]
        given: dict[Statement, dict[str, object]] = {
            sql.LOCK_ENDED: {"age": timedelta(days=100), "limit": 500, "events": 5000},
            sql.PAGE: {"after": UUID(int=0), "limit": 500},
            sql.LOCK_LIVE: {"age": timedelta(days=900), "ids": ids},
            sql.SNAPSHOT: {"ids": ids, "bases": [2] * 500},
            sql.CUT: {"ids": ids, "bases": [2] * 500, "age": MONTH, "ended": True},
            sql.MARK: {"ids": ids},
            sql.LOCK_PRUNED: {"age": timedelta(days=900), "limit": 500},
            sql.AT_REST: {"ids": ids},
            sql.FORGET: {"ids": ids},
            sql.LOCK_EXPIRED: {"limit": 500},
            sql.EXPIRE: {"ids": ids},
        }
        if generic:
            connection.execute("SET plan_cache_mode = force_generic_plan")
        found = {}
        for statement, parameters in given.items():
            connection.prepare_threshold = 0
            (row,) = connection.execute(
                f"EXPLAIN (FORMAT JSON) {statement.on('fsm')}".encode(), parameters
            ).fetchone() or (None,)
            found[statement.name] = scanned((row if isinstance(row, list) else json.loads(row))[0]["Plan"])

    assert {name: tables for name, tables in found.items() if tables} == {}


# In a relay


def test_a_relay_prunes_a_slice_of_each_kind_at_a_time(
    engine: Engine, world: PostgresWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon again while there is something to do, seldom when there is not."""
    monkeypatch.setattr(flows, "SLICE_MACHINES", 2)
    over(world, 1, 2, 3)
    world.store.signal(desk, "d", Serve("ann"), ttl=timedelta(days=1))
    grow_old(world, 2)
    keeper = Keeper(PostgresOutbox(engine), BOTH)

    first, soon, at = keeper.tick(100.0), keeper.tick(100.0 + SOON / 2), keeper.tick(100.0 + SOON)
    assert (first.machines, first.held, first.unborn) == (2, 1, 1)
    assert soon == Pruned()
    assert (at.machines, at.held) == (1, 0)
    assert not any(keeper.tick(100.0 + 2 * SOON))
    over(world, 4)
    assert not any(keeper.tick(100.0 + 4 * SOON))
    assert keeper.tick(200.0).machines == 1
