"""Events, actions and attempts in ranges of the machine's birth: everything works as before, and what is over goes by DROP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import Engine

from fsm_core import ActionStatus
from fsm_core.delivery.finish import finish
from fsm_core.delivery.outcome import Completed, Result
from fsm_core.delivery.ports import Cursor, Move
from fsm_core.errors import ConfigurationError
from fsm_core.postgres import PostgresStore, tables
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.partitions import MOST_STRAGGLERS, Every, Partitions, born, bound
from fsm_core.postgres.statements import Statement
from fsm_core.postgres.statements import partitions as statements
from fsm_core.registry import Registry
from tests.plans.explaining import Recorder
from tests.plans.parcels import Deliver, parcel
from tests.plans.parcels import Move as Moved
from tests.store.world import plain
from tests.waiting import eventually

OLD = datetime(2025, 3, 10, 12, tzinfo=UTC)
"""When machines that are over were born."""


@pytest.fixture
def sql(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(plain(database_url), autocommit=True) as connection:
        yield connection


def rows(sql: psycopg.Connection[Any], query: str, *parameters: object) -> list[Any]:
    found = sql.execute(query.encode(), parameters).fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


def old_range(sql: psycopg.Connection[Any], first: datetime = OLD) -> None:
    """A partition of each table for that day, as if it had been made in time."""
    day = Every.DAY.begin(first)
    for table in ("events", "actions", "attempts"):
        sql.execute(
            f"CREATE TABLE fsm.{table}_{day:%Y%m%d} PARTITION OF fsm.{table}"
            f" FOR VALUES FROM ('{bound(day)}') TO ('{bound(Every.DAY.end(day))}')".encode()
        )


def grown_old(sql: psycopg.Connection[Any], key: str, at: datetime = OLD) -> UUID:
    """Let the machine have been born then, and have ended then, if it has."""
    (machine,) = rows(sql, "SELECT id FROM fsm.machines WHERE key = %s", key)
    old = UUID(int=bound(at).int | (machine.int & ((1 << 80) - 1)))
    for table in ("events", "actions", "attempts"):
        sql.execute(f"UPDATE fsm.{table} SET machine_id = %s WHERE machine_id = %s".encode(), (old, machine))
    sql.execute(
        "UPDATE fsm.machines SET id = %s, ended_at = CASE WHEN ended_at IS NOT NULL THEN %s::timestamptz END WHERE id = %s",
        (old, at, machine),
    )
    sql.execute(
        "UPDATE fsm.actions SET status = 'completed', finished_at = now() WHERE machine_id = %s", (old,)
    )
    return old


def test_the_tables_are_the_same_but_for_their_parts(
    partitioned: Partitions, engine: Engine, second_engine: Engine
) -> None:
    """Columns, checks, keys and indexes: all but the lane's, which each part has for itself."""
    columns = "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_schema = 'fsm'"
    checks = "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'fsm'::regnamespace"
    indexes = "SELECT tablename, indexname, replace(indexdef, ' ONLY ', ' ') FROM pg_indexes WHERE schemaname = 'fsm'"

    def described(engine: Engine, query: str) -> set[tuple[object, ...]]:
        known = {name.removeprefix("fsm.") for name in tables.build("fsm").tables}
        with engine.connect() as connection:
            found = connection.exec_driver_sql(query).all()
        return {tuple(row) for row in found if str(row[0]).removeprefix("fsm.") in known}

    for query in (columns, checks):
        assert described(engine, query) == described(second_engine, query)
    missing = described(second_engine, indexes) - described(engine, indexes)
    assert {row[1] for row in missing} == {"actions_lane"}
    options = (
        "SELECT relname, unnest(reloptions) FROM pg_class WHERE relname IN ('actions', 'events', 'attempts')"
    )
    made = described(second_engine, options)
    assert len(made) == 2
    for table, option in made:
        for part in partitioned.ranges():
            where = f"SELECT '{table}', unnest(reloptions) FROM pg_class WHERE relname = '{table}{part.name}'"
            assert (table, option) in described(engine, where)
    with engine.connect() as connection:
        lanes = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'actions_lane_%%' AND indexdef LIKE 'CREATE UNIQUE%%'"
        ).scalar()
    assert lanes == len(partitioned.ranges()) == 4


def test_a_life_on_partitioned_tables(partitioned: Partitions, engine: Engine) -> None:
    """Start, advance, dedup, timers, children, many; relay, claim, retry, late results, finish."""
    store, outbox, registry = (
        PostgresStore(engine, machines=[parcel]),
        PostgresOutbox(engine),
        Registry([parcel]),
    )
    store.start(parcel, "a")
    store.advance(parcel, "a", Moved(), dedup_key="once")
    assert store.advance(parcel, "a", Moved(), dedup_key="once").duplicate
    store.advance(parcel, "a", Moved("timer"))
    store.advance(parcel, "a", Moved("timer"))
    store.advance(parcel, "a", Moved("child", "c"))
    for key in ("b", "d"):
        store.start(parcel, key)
    store.advance_many(parcel, [(key, Moved()) for key in ("a", "b", "d", "b")])

    ticket, me = uuid4(), uuid4()
    published = outbox.publish("default", 100, ticket)
    claimed = outbox.claim(me, [row.id for row in published], ticket, uuid4())
    assert len(claimed) == len(published) == 5
    again, *rest = claimed
    assert outbox.move(
        [Move(again.id, ActionStatus.RUNNING, again.token, ActionStatus.PENDING, attempt_outcome="error")]
    )
    finished = finish(outbox, registry, [Result(each, Completed((Moved(),))) for each in rest])
    singly = [finish(outbox, registry, [each]) for each in finished.alone]
    assert len(finished.done) + sum(len(each.done) for each in singly) == 4
    store.advance(parcel, "a", Deliver())

    assert [entry.seq for entry in store.history(parcel, "a")] == list(range(store.get(parcel, "a").seq + 1))
    assert store.action(again.id).attempts[0].outcome == "error"
    assert store.get(parcel, "c").status == "live"
    timers = [a for a in store.actions(key="a") if a.name == "After"]
    assert [a.status for a in timers] == [ActionStatus.CANCELLED, ActionStatus.CANCELLED]


def test_a_lane_over_two_ranges_is_single(
    partitioned: Partitions, engine: Engine, sql: psycopg.Connection[Any]
) -> None:
    """No index holds there: admission alone does."""
    store, outbox = PostgresStore(engine, machines=[parcel]), PostgresOutbox(engine)
    old_range(sql)
    for key in ("old", "young"):
        store.start(parcel, key)
    old = grown_old(sql, "old")
    for key in ("old", "young", "old"):
        store.advance(parcel, key, Moved("lane", "one"))
    assert len({born(a.id.machine_id).date() for a in store.actions()}) == 2

    order: list[UUID] = []
    for _ in range(3):
        assert outbox.admit(Cursor()).rows == 1
        assert outbox.admit(Cursor()).rows == 0
        ticket = uuid4()
        (row,) = outbox.publish("default", 10, ticket)
        (claimed,) = outbox.claim(uuid4(), [row.id], ticket, uuid4())
        assert outbox.admit(Cursor()).rows == 0
        finish(outbox, Registry([parcel]), [Result(claimed, Completed())])
        order.append(row.id.machine_id)

    assert [each == old for each in order] == [True, False, True]


def test_a_lookup_by_key_touches_one_range(
    partitioned: Partitions, engine: Engine, database_url: str
) -> None:
    """Of all parts, the plan runs the one that the id lies in; also as it is planned once for all values."""
    recorder = Recorder(database_url)
    own = recorder.engine(own=True)
    store, outbox = PostgresStore(own, machines=[parcel]), PostgresOutbox(own)
    store.start(parcel, "a")
    store.advance(parcel, "a", Moved())
    with recorder.listening():
        ticket = uuid4()
        rows = outbox.publish("default", 1, ticket)
        outbox.claim(uuid4(), [row.id for row in rows], ticket, uuid4())
    own.dispose()

    (claim,) = recorder.of("claim")
    scans = [
        n
        for n in claim.nodes
        if "Scan" in n["Node Type"] and str(n.get("Relation Name", "")).startswith("actions_")
    ]
    assert len(partitioned.ranges()) == 4
    assert {n["Relation Name"] for n in scans if n["Actual Loops"]} == {f"actions_{datetime.now(UTC):%Y%m%d}"}
    assert len({n["Relation Name"] for n in scans}) > 1


def test_ranges_are_made_ahead_and_take_what_came_before_them(
    partitioned: Partitions, engine: Engine, sql: psycopg.Connection[Any]
) -> None:
    """What is missing is caught by the default partition, and moved when its range is made."""
    names = [each.name for each in partitioned.ranges()]
    today = f"_{datetime.now(UTC):%Y%m%d}"
    assert names == [*sorted(names[:-1]), "_default"]
    assert names[0] == today
    assert partitioned.extend() == []
    for table in ("events", "actions", "attempts"):
        sql.execute(f"DROP TABLE fsm.{table}{today}".encode())
    store = PostgresStore(engine, machines=[parcel])
    store.start(parcel, "a")
    store.advance(parcel, "a", Moved())
    where = "SELECT DISTINCT tableoid::regclass::text FROM fsm.actions"
    assert rows(sql, where) == ["fsm.actions_default"]

    assert partitioned.extend(ahead=3) == [
        today,
        f"_{Every.DAY.begin(datetime.now(UTC)) + timedelta(days=3):%Y%m%d}",
    ]

    assert rows(sql, where) == [f"fsm.actions{today}"]
    assert [e.seq for e in store.history(parcel, "a")] == [0, 1]
    assert all(r.first is None or r.after == r.first + timedelta(days=1) for r in partitioned.ranges())


def test_a_range_goes_by_drop_when_its_machines_are_over(
    partitioned: Partitions, engine: Engine, sql: psycopg.Connection[Any]
) -> None:
    """Those that are not keep all they have; the others are gone with their keys."""
    store = PostgresStore(engine, machines=[parcel])
    old_range(sql)
    for key in ("over", "alive", "young"):
        store.start(parcel, key)
        store.advance(parcel, key, Moved())
        if key != "alive":
            store.advance(parcel, key, Deliver())
    grown_old(sql, "over")
    grown_old(sql, "alive")
    alive = store.history(parcel, "alive")
    bytes_before = sum(each.size for each in partitioned.ranges())

    dropped = partitioned.drop(timedelta(days=30))

    assert dropped.ranges == (f"_{OLD:%Y%m%d}",)
    assert (dropped.machines, dropped.moved, dropped.left) == (1, 1, ())
    assert sum(each.size for each in partitioned.ranges()) < bytes_before
    assert rows(sql, "SELECT key FROM fsm.machines ORDER BY key") == ["alive", "young"]
    assert rows(
        sql,
        "SELECT count(*) FROM fsm.events e LEFT JOIN fsm.machines m ON m.id = e.machine_id WHERE m.id IS NULL",
    ) == [0]
    assert rows(
        sql,
        "SELECT DISTINCT tableoid::regclass::text FROM fsm.events WHERE machine_id < %s",
        bound(datetime(2026, 1, 1, tzinfo=UTC)),
    ) == ["fsm.events_default"]
    assert store.history(parcel, "alive") == alive
    assert store.advance(parcel, "alive", Deliver()).ended_at is not None
    assert store.orphans() == []
    assert partitioned.drop(timedelta(days=30)).ranges == ()


@pytest.mark.parametrize("why", ["an open action", "a child that lives", "it ended yesterday"])
def test_a_machine_that_is_not_over_is_moved(
    partitioned: Partitions, engine: Engine, sql: psycopg.Connection[Any], why: str
) -> None:
    store = PostgresStore(engine, machines=[parcel])
    old_range(sql)
    store.start(parcel, "a")
    store.advance(parcel, "a", Moved("child", "c") if why == "a child that lives" else Moved())
    store.advance(parcel, "a", Deliver())
    machine = grown_old(sql, "a")
    if why == "an open action":
        sql.execute(
            "UPDATE fsm.actions SET status = 'pending', finished_at = NULL WHERE machine_id = %s", (machine,)
        )
    elif why == "a child that lives":
        sql.execute("UPDATE fsm.machines SET parent = %s WHERE key = 'c'", (machine,))
    else:
        sql.execute("UPDATE fsm.machines SET ended_at = now() - interval '1 day' WHERE id = %s", (machine,))

    dropped = partitioned.drop(timedelta(days=30))

    assert (dropped.machines, dropped.moved) == (0, 1)
    assert len(store.history(parcel, "a")) == 3


def test_a_range_with_many_that_are_not_over_is_left_alone(
    partitioned: Partitions, sql: psycopg.Connection[Any]
) -> None:
    """What they have would be moved under a lock that everybody waits for."""
    old_range(sql)
    sql.execute(
        "INSERT INTO fsm.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at)"
        " SELECT ((%s::uuid::text)::varchar(24) || lpad(to_hex(n), 12, '0'))::uuid, 'parcel', n::text, 1, 'live', 'Packed', '{}', 0, 1, now(), now()"
        " FROM generate_series(1, %s) n",
        (bound(OLD), MOST_STRAGGLERS + 1),
    )

    assert partitioned.drop(timedelta(days=30)) == ((), 0, 0, (f"_{OLD:%Y%m%d}",))

    sql.execute("DELETE FROM fsm.machines WHERE key = '1'")
    assert partitioned.drop(timedelta(days=30)) == ((f"_{OLD:%Y%m%d}",), 0, MOST_STRAGGLERS, ())


def test_an_action_that_is_opened_meanwhile_keeps_its_range(
    partitioned: Partitions, engine: Engine, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the lock an operator retries it: under the lock it is seen, and nothing is dropped."""
    store = PostgresStore(engine, machines=[parcel])
    old_range(sql)
    store.start(parcel, "a")
    store.advance(parcel, "a", Moved())
    store.advance(parcel, "a", Deliver())
    machine = grown_old(sql, "a")
    sql.execute(
        "UPDATE fsm.actions SET status = 'pending', finished_at = NULL WHERE machine_id = %s", (machine,)
    )
    nobody = (
        "SELECT NULL WHERE num_nulls(%(first)s::uuid, %(after)s::uuid, %(age)s::interval, %(limit)s::int) = 4"
    )
    monkeypatch.setattr(statements, "STRAGGLERS", Statement("stragglers", nobody))

    assert partitioned.drop(timedelta(days=30)) == ((), 0, 0, (f"_{OLD:%Y%m%d}",))
    assert len(store.history(parcel, "a")) == 3


def test_a_transaction_in_flight_is_waited_for(
    partitioned: Partitions, engine: Engine, sql: psycopg.Connection[Any], database_url: str
) -> None:
    """For half a second at a time, so that nobody queues up behind it; in the end it is dropped."""
    store = PostgresStore(engine, machines=[parcel])
    old_range(sql)
    for key in ("old", "young"):
        store.start(parcel, key)
        store.advance(parcel, key, Deliver())
    grown_old(sql, "old")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as pool, psycopg.connect(plain(database_url)) as writer:
        store.start(parcel, "in flight", session=writer)
        dropping = pool.submit(partitioned.drop, timedelta(days=30))
        eventually(lambda: rows(sql, waits)[0] or dropping.done(), what="it waits for the lock")
        store.advance(parcel, "in flight", Moved(), session=writer)
        writer.commit()

        assert dropping.result(60).machines == 1
    assert store.get(parcel, "in flight").seq == 1


def test_a_machine_whose_birth_is_not_committed_yet_keeps_all_it_has(
    partitioned: Partitions, engine: Engine, sql: psycopg.Connection[Any], database_url: str
) -> None:
    """A transaction that began in the range may be open still: who is over is told when it has ended."""
    store = PostgresStore(engine, machines=[parcel])
    old_range(sql)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as pool, psycopg.connect(plain(database_url)) as writer:
        store.start(parcel, "in flight", session=writer)
        grown_old(writer, "in flight")
        dropping = pool.submit(partitioned.drop, timedelta(days=30))
        eventually(lambda: rows(sql, waits)[0] or dropping.done(), what="it waits for the writer")
        writer.commit()

        assert dropping.result(60)[:3] == ((f"_{OLD:%Y%m%d}",), 0, 1)
    assert len(store.history(parcel, "in flight")) == 1


def test_only_a_fresh_installation_is_partitioned(engine: Engine) -> None:
    """Tables with rows are refused, and so is a second time."""
    made = Partitions(engine)
    assert (made.every, made.ranges()) == (None, [])
    with pytest.raises(ConfigurationError, match="not partitioned"):
        made.extend()
    with pytest.raises(ConfigurationError, match="not partitioned"):
        made.drop(timedelta(days=1))
    store = PostgresStore(engine, machines=[parcel])
    store.start(parcel, "a")
    with pytest.raises(ConfigurationError, match="have rows"):
        made.enable(Every.MONTH)
    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE fsm.events, fsm.actions, fsm.machines CASCADE")

    made.enable(Every.MONTH, ahead=1)

    assert made.every is Every.MONTH
    assert len(made.ranges()) == 3
    with pytest.raises(ConfigurationError, match="partitioned already, by month"):
        made.enable(Every.DAY)


@pytest.mark.parametrize(
    ("every", "at", "begin", "end"),
    [
        (Every.DAY, "2028-02-29T23:59:59+00:00", "2028-02-29", "2028-03-01"),
        (Every.WEEK, "2026-01-01T00:00:00+00:00", "2025-12-29", "2026-01-05"),
        (Every.MONTH, "2026-12-31T23:30:00-05:00", "2027-01-01", "2027-02-01"),
        (Every.MONTH, "2026-12-01T00:00:00+00:00", "2026-12-01", "2027-01-01"),
    ],
)
def test_ranges_follow_the_calendar_in_utc(every: Every, at: str, begin: str, end: str) -> None:
    first = every.begin(datetime.fromisoformat(at))

    assert (f"{first:%Y-%m-%d}", f"{every.end(first):%Y-%m-%d}") == (begin, end)
    assert born(bound(first)) == first
