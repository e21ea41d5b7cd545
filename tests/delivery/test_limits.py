"""Limits under races, floods and kills on a real database: counted in rows, never in time."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, text

from fsm_core import ActionStatus
from fsm_core.delivery.ports import Cursor
from fsm_core.delivery.reconcile import reconcile
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.statements import relay as statements
from tests.delivery import passes
from tests.delivery.calls import Make, calls
from tests.delivery.passes import HOUR, LEASE, active, ask, claim, relays, tick
from tests.delivery.test_many_timers import descents, nodes, plan_of, rows_read, scans
from tests.delivery.test_relay import FakeBroker
from tests.store.world import plain

store = passes.store

MANY = 50_000

# Copies of the one blocked call; each in a machine of its own, which nobody asks for here.
MULTIPLY = """
INSERT INTO fsm.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, lane, limit_name, limit_key,
                         created_at, run_at)
SELECT gen_random_uuid(), seq, idx, name, version, payload, tracked, status, queue, priority, lane, limit_name, limit_key,
       created_at + n * interval '1 us', run_at + n * interval '1 us'
  FROM (SELECT * FROM fsm.actions WHERE status = 'blocked' ORDER BY machine_id, seq, idx LIMIT 1) one, generate_series(1, :rows) n"""


def test_relays_at_once_admit_no_more_than_the_limit(
    engine: Engine, store: PostgresStore, database_url: str
) -> None:
    """Whatever ends meanwhile: never more than three of the key are admitted, and in the end all have been."""
    store.limit("api", max_running=3)
    store.advance(calls, "m", Make(80))
    seen: list[int] = []

    def run(outbox: PostgresOutbox) -> None:
        for n in range(60):
            start.wait(30)
            if outbox is every[3]:
                store.advance(
                    calls, "m", Make(1, priority=4 - n // 15)
                )  # more urgent than whatever was found before
            outbox.admit(Cursor())
            start.wait(30)
            if outbox is every[0]:
                seen.append(active(engine))
                for each in store.actions(status="pending", limit=2):
                    store.cancel_action(each.id)
            start.wait(30)

    start = Barrier(4)
    with relays(database_url, 4) as every, ThreadPoolExecutor(4) as pool:
        list(pool.map(run, every))

    assert seen == [3] * 60


def test_a_pass_that_has_not_committed_is_not_overlooked(
    engine: Engine, store: PostgresStore, database_url: str
) -> None:
    """While it is under way a more urgent row comes: another relay must not take the same slot for it."""
    store.limit("api", max_running=1)
    store.advance(calls, "m", Make(1))
    with psycopg.connect(plain(database_url)) as other:
        assert other.execute(statements.ADMISSION.on("fsm").encode()).fetchone() == (True,)
        row = other.execute(statements.ADMIT.on("fsm").encode(), Cursor()._asdict()).fetchone()
        assert row is not None
        assert row[0] == 1
        store.advance(calls, "m", Make(1, priority=0))
        PostgresOutbox(engine).admit(Cursor())
    PostgresOutbox(engine).admit(Cursor())

    assert active(engine) == 1


def test_relays_at_once_spend_no_token_twice(engine: Engine, store: PostgresStore, database_url: str) -> None:
    """Of a full bucket of seven, seven begin; what is left in it is what it was less seven."""
    store.limit("api", rate=7, per=HOUR)
    store.advance(calls, "m", Make(60))
    start = Barrier(4)

    def run(outbox: PostgresOutbox) -> int:
        start.wait(30)
        return sum(outbox.admit(Cursor()).rows for _ in range(10))

    with relays(database_url, 4) as every, ThreadPoolExecutor(4) as pool:
        admitted = sum(pool.map(run, every))

    assert admitted == active(engine) == 7
    ((tokens,),) = ask(engine, "SELECT tokens FROM fsm.buckets WHERE name = 'api' AND key = 'a'")
    assert 0 <= tokens < 1


def test_admission_waits_behind_no_other_relay(
    engine: Engine, store: PostgresStore, database_url: str
) -> None:
    """The one that is at it holds the lock; the other goes on with what it has, and finds what was admitted."""
    store.limit("api", max_running=1)
    store.advance(calls, "m", Make(2))
    with psycopg.connect(plain(database_url)) as other:
        assert other.execute(statements.ADMISSION.on("fsm").encode()).fetchone() == (True,)
        assert PostgresOutbox(engine).admit(Cursor("x", "y", "z")) == (0, Cursor("x", "y", "z"), timedelta(0))
    assert PostgresOutbox(engine).admit(Cursor()).rows == 1


def test_a_default_isolation_of_the_database_does_not_blind_the_count(
    engine: Engine, store: PostgresStore, database_url: str
) -> None:
    """A relay's own connections read committed rows: a snapshot of the whole transaction is older than the lock."""
    name = ask(engine, "SELECT current_database()")[0][0]
    with psycopg.connect(plain(database_url), autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'").format(
                sql.Identifier(name)
            )
        )
    with relays(database_url, 1) as (outbox,), outbox._own.connected("look") as connection:
        found = connection.execute("SHOW default_transaction_isolation").fetchone()
    assert found == ("read committed",)


def test_the_slot_of_a_dead_worker_is_free_when_its_action_goes_back(
    engine: Engine, store: PostgresStore
) -> None:
    """Slots are rows: nothing is leaked by a kill, and nobody gets a second one before the lease is taken away."""
    store.limit("api", max_running=2)
    store.advance(calls, "m", Make(4))
    lost = claim(engine, tick(engine))
    assert len(lost) == 2
    assert tick(engine).ids == []

    reconcile(PostgresOutbox(engine), FakeBroker(), {}, lease=LEASE, may_bury=True)

    assert {store.action(each).status for each in lost} == {ActionStatus.BLOCKED}
    assert active(engine) == 0
    assert len(tick(engine).ids) == 2
    assert active(engine) == 2


def test_a_tenant_that_floods_holds_nobody_back(engine: Engine, store: PostgresStore) -> None:
    """Ten times as many of one key, and before all others: each pass admits for every key what it has room for."""
    store.limit("api", max_running=2)
    store.advance(calls, "m", Make(1000, "flood"))
    for tenant in range(100):
        store.advance(calls, "m", Make(1, f"tenant {tenant}"))

    started = claim(engine, tick(engine))

    tenants = Counter(str(store.action(each).payload["tenant"]) for each in started)
    assert tenants["flood"] == 2
    assert len(tenants) == 101
    assert PostgresOutbox(engine).admit(Cursor()).rows == 0


def test_more_keys_than_a_pass_looks_at_are_all_looked_at(engine: Engine, store: PostgresStore) -> None:
    """Denied keys do not stand before the others: one tick goes on behind them."""
    store.limit("full", max_running=0)
    store.limit("open", max_running=1)
    store.advance(calls, "m", Make(1, "last", "open"))
    store.advance(calls, "m", Make(1, "k", "full"))
    with engine.begin() as connection:
        connection.execute(text(MULTIPLY.replace("limit_name, limit_key,\n       created", ":name, 'k' || n,\n       created")), {"rows": 1200, "name": "full"})  # fmt: skip

    assert len(tick(engine).ids) == 1
    found = PostgresOutbox(engine).admit(Cursor())
    assert found.rows == 0
    assert found.cursor.limit == "full"


def test_a_room_for_many_is_shared_by_the_keys(engine: Engine, store: PostgresStore) -> None:
    """A pass admits about five hundred at most, an equal share for each key; the next ones go on."""
    store.limit("api", max_running=10_000)
    store.advance(calls, "m", Make(1, "a"))
    with engine.begin() as connection:
        connection.execute(text(MULTIPLY), {"rows": 2000})
    store.advance(calls, "m", Make(1, "b"))

    assert PostgresOutbox(engine).admit(Cursor()).rows == 251
    assert active(engine, "b") == 1


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("lane", [None, "x"])
def test_what_waits_for_its_limit_is_not_read(
    engine: Engine, store: PostgresStore, database_url: str, mode: str, lane: str | None
) -> None:
    """With 50,000 blocked rows of one key a pass reads no more of them than with 2,000, whether it has room or not.

    With statistics, and before there are any; of the table nothing is read from end to end.
    """
    store.advance(calls, "m", Make(3, lane=lane))
    asked = (statements.ADMIT, dict(Cursor()._asdict()), mode)
    with psycopg.connect(plain(database_url), autocommit=True) as connection:

        def read() -> dict[int, int]:
            found = {}
            for room in (0, 2):
                store.limit("api", max_running=room)
                plan = plan_of(connection, *asked)
                assert "Seq Scan" not in {node["Node Type"] for node in scans(plan)}, plan
                found[room] = rows_read(plan)
                assert descents(plan) < 100, plan
            return found

        with engine.begin() as beside:
            beside.execute(text(MULTIPLY), {"rows": 2000})
        few = read()
        with engine.begin() as beside:
            beside.execute(text(MULTIPLY), {"rows": MANY})
        assert read() == few
        connection.execute("ANALYZE fsm.actions, fsm.machines")
        assert read() == few
        assert few[0] < few[2] <= few[0] + 12


def test_a_pass_that_admits_reads_each_of_them_once(
    engine: Engine, store: PostgresStore, database_url: str
) -> None:
    """Hundreds out of 50,000: the search reads as many rows as it admits, and one for the key."""
    store.limit("api", max_running=400)
    store.advance(calls, "m", Make(1))
    with engine.begin() as connection:
        connection.execute(text(MULTIPLY), {"rows": MANY})
    with psycopg.connect(plain(database_url), autocommit=True) as driver:
        plan = plan_of(driver, statements.ADMIT, dict(Cursor()._asdict()), "force_generic_plan")
        searched = [node for node in nodes(plan) if node.get("Index Name") == "actions_limited"]
        assert sum(node["Actual Rows"] * node["Actual Loops"] for node in searched) <= 402


def test_the_next_token_wakes_the_relay(engine: Engine, store: PostgresStore) -> None:
    """A pass tells when time alone lets more in: by a token, by a retry that is due; not when only an end can."""
    outbox = PostgresOutbox(engine)
    store.limit("api", rate=10, per=HOUR, burst=1)
    store.advance(calls, "m", Make(3))
    first = outbox.admit(Cursor())
    assert first.rows == 1
    assert first.wake is not None
    assert timedelta(seconds=300) < first.wake <= timedelta(seconds=360)

    store.limit("api", max_running=1, rate=10, per=HOUR, burst=1)
    assert outbox.admit(Cursor()).wake is None
    store.limit("api", max_running=5)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE fsm.actions SET run_at = now() + interval '50 s' WHERE status = 'blocked'")
        )
    due = outbox.admit(Cursor()).wake
    assert due is not None
    assert timedelta(seconds=30) < due <= timedelta(seconds=50)


def test_a_bucket_that_is_full_again_is_forgotten(engine: Engine, store: PostgresStore) -> None:
    """And one of a limit without a rate; one that is not full stays."""
    store.limit("api", rate=2, per=HOUR)
    for tenant in ("a", "b"):
        store.advance(calls, "m", Make(1, tenant))
    PostgresOutbox(engine).admit(Cursor())
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE fsm.buckets SET refilled_at = refilled_at - interval '1 day' WHERE key = 'a'")
        )

    PostgresOutbox(engine).forget_workers()
    assert ask(engine, "SELECT key FROM fsm.buckets") == [("b",)]
    store.limit("api", max_running=1)
    PostgresOutbox(engine).forget_workers()
    assert ask(engine, "SELECT key FROM fsm.buckets") == []


def test_what_ends_under_a_limit_rings_for_those_behind_it(
    engine: Engine, store: PostgresStore, database_url: str
) -> None:
    """By a cancel, and by a changed limit; a relay that sleeps is woken."""
    store.limit("api", max_running=1)
    store.advance(calls, "m", Make(2))
    PostgresOutbox(engine).admit(Cursor())
    (first,) = store.actions(status="pending")

    with psycopg.connect(plain(database_url), autocommit=True) as sleeper:
        sleeper.execute(b"LISTEN fsm")
        sleeper.execute(statements.TAKE_BELL.on("fsm").encode())
        store.cancel_action(first.id)
        assert len(list(sleeper.notifies(timeout=5, stop_after=1))) == 1
        store.limit("api", max_running=2)
        assert len(list(sleeper.notifies(timeout=5, stop_after=1))) == 1
