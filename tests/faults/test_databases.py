"""Postgres fails: it commits and does not say so, ends connections, holds locks, is full, or has no place for one more."""

import os
import random
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from chaos.proxy import Proxy
from examples.door import Close, Lock, Open, door
from fsm_core import ActionId
from fsm_core.delivery.retention import Retention
from fsm_core.errors import Busy, DatabaseError, DatabaseUnavailable, StoreError
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.migrate import downgrade, status, upgrade
from tests.conftest import administer, at_database
from tests.faults.conftest import Broken
from tests.store.machines import Dropped, New, Note, Serve, desk, orders
from tests.store.world import WORLDS, PostgresWorld, plain
from tests.waiting import eventually
from tests.workers.jobs import Do, jobs, notes
from workers.dev.servers import Servers

OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)


@pytest.fixture(params=sorted(WORLDS))
def world(request: pytest.FixtureRequest, database: Proxy) -> Iterator[PostgresWorld]:
    """A store of each kind behind a proxy."""
    with WORLDS[request.param](database.url) as world:
        yield world


class Case(NamedTuple):
    """A call: what it writes into, its answer, and how many events it adds."""

    table: str
    call: Callable[[PostgresWorld], object]
    answer: object
    events: int


CASES = {
    "start": Case("machines", lambda w: w.store.start(orders, 8, New(1)).duplicate, answer=False, events=1),
    "advance": Case("events", lambda w: w.store.advance(orders, 7, Note()).seq, 1, 1),
    "advance_many": Case(
        "events",
        lambda w: [s.seq for s in w.store.advance_many(orders, [(7, Note()), (7, Note())])],
        [1, 2],
        2,
    ),
    "hold": Case("inbox", lambda w: w.store.advance(desk, 1, Serve("ann")).held, answer=True, events=0),
    "signal": Case("events", lambda w: w.store.signal(orders, 7, Note()).seq, 1, 1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_commit_whose_answer_is_cut_off_is_found_and_not_repeated(
    world: PostgresWorld, database: Proxy, case: Case
) -> None:
    """Row 13. The caller sees the answer of a call that nothing happened to; the tables too are as after one call."""
    world.store.start(orders, 7, New(1))
    world.store.start(desk, 1)
    database.cut_after_commit(matching=rf"INSERT INTO \S+{case.table}")

    assert case.call(world) == case.answer

    assert database.cuts == 1
    contents = world.contents()
    assert (len(contents["events"]), len(contents["inbox"])) == (2 + case.events, int(case.table == "inbox"))


class Operated(NamedTuple):
    """An operator's call: a piece of the SQL that it writes by, and its answer, as of an action that failed."""

    writes: str
    call: Callable[[PostgresWorld, ActionId], object]
    answer: object


OPERATED = {
    "cancel": Operated(r"UPDATE \S+machines", lambda w, _: w.store.cancel(orders, 7), 1),
    "cancel_action": Operated("'cancelled'", lambda w, a: w.store.cancel_action(a), None),
    "retry": Operated("budget_from", lambda w, a: w.store.retry([a]) == [a], answer=True),
    "remove_limit": Operated("DELETE", lambda w, _: w.store.remove_limit("gate"), answer=True),
    "prune": Operated("DELETE", lambda w, _: w.store.prune(Retention(timedelta(0))).machines, 1),
    "signal_or_start": Operated(
        "events", lambda w, _: w.store.signal_or_start(orders, 8, Note(), New(2)).seq, 1
    ),
}


@pytest.mark.parametrize("case", OPERATED.values(), ids=OPERATED.keys())
def test_an_operators_commit_whose_answer_is_cut_off_is_not_made_twice(
    world: PostgresWorld, database: Proxy, case: Operated
) -> None:
    """Row 13. The server knows what became of the transaction: the caller sees the answer of its own success."""
    made = world.store.start(orders, 7, New(1))
    world.store.advance(orders, 7, Note())
    world.store.start(orders, 9, Dropped())
    world.store.limit("gate", max_running=1)
    world.change_actions(0, status="failed", finished_at=made.created_at)
    database.cut_after_commit(matching=case.writes)

    assert case.call(world, ActionId(made.id, 1, 0)) == case.answer

    assert database.cuts == 1


def test_a_callers_commit_whose_answer_is_cut_off_is_repeated_with_a_dedup_key(database: Proxy) -> None:
    """Row 13. The transaction is the caller's: it is told, and the repeat finds what it did."""
    engine = create_engine(database.url)
    store = PostgresStore(engine)
    store.start(door, "front")

    def once() -> tuple[int, bool]:
        with Session(engine) as session, session.begin():
            done = store.advance(door, "front", Close(), session=session, dedup_key="evt-1")
        return done.seq, done.duplicate

    database.cut_after_commit(matching=r"INSERT INTO \S+events")
    with pytest.raises(OperationalError):
        once()

    assert database.cuts == 1
    assert once() == (1, True)
    engine.dispose()


def test_work_goes_on_while_connections_are_ended_again_and_again(cluster: Broken) -> None:
    """Row 14. All of them at once, five times, with work under way: neither callers nor processes give up."""
    cluster.relay()
    cluster.worker()
    cluster.store.start(jobs, "a")
    for n in range(5):
        cluster.store.advance(jobs, "a", Do(tuple(f"job {n}.{i}" for i in range(4))))
        eventually(lambda n=n: f"start job {n}.0 1" in notes(cluster.notes), timeout=30, what="it runs")
        cluster.engine.dispose()  # the test's own looks are no callers
        with psycopg.connect(plain(cluster.database_url), autocommit=True) as killer:
            assert killer.execute(OTHERS).fetchall()

    assert {a.status.value for a in cluster.settled(timeout=60)} == {"completed"}
    assert len(cluster.store.get(jobs, "a").state.done) == 20
    assert cluster.ended == []


def test_a_held_lock_and_an_old_snapshot_hold_up_nobody_else(cluster: Broken) -> None:
    """Row 15. The result for the machine that is locked waits; all others are applied, and nothing runs twice."""
    cluster.relay()
    cluster.worker()
    for key in ("a", "b"):
        cluster.store.start(jobs, key)
    cluster.store.advance(jobs, "b", Do(("wait:go",)))
    eventually(lambda: "start wait:go 1" in notes(cluster.notes), what="the effect of b runs")

    with psycopg.connect(plain(cluster.database_url)) as blocker:
        blocker.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        blocker.execute("SELECT 1 FROM fsm.machines WHERE key = 'b' FOR UPDATE")
        cluster.open("go")
        cluster.store.advance(jobs, "a", Do(tuple(f"job {n}" for n in range(20))))
        eventually(lambda: len(cluster.store.get(jobs, "a").state.done) == 20, timeout=30, what="a is done")
        assert cluster.store.get(jobs, "b").state.done == ()
        impatient = PostgresStore(cluster.engine, lock_timeout=timedelta(milliseconds=50))
        with pytest.raises(Busy):
            impatient.advance(jobs, "b", Do(("more",)))

    assert {a.attempt for a in cluster.settled()} == {1}
    assert cluster.store.get(jobs, "b").state.done == ("wait:go",)


@pytest.fixture
def small_disk(servers: Servers) -> Iterator[Path]:
    """A disk of 32 MB that Postgres may write to."""
    with psycopg.connect(plain(servers.database_url)) as connection:
        (data,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    if os.geteuid() != 0 or not Path(data).exists():
        pytest.skip("needs root, to mount a small disk, and a Postgres on this machine")
    folder = Path(mkdtemp())
    folder.chmod(0o755)
    owner = f"uid={Path(data).stat().st_uid},mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size=32m,{owner}", "tmpfs", folder], check=False, capture_output=True
    )
    try:
        if mounted.returncode != 0:
            pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
        yield folder
        subprocess.run(["umount", folder], check=True)
    finally:
        folder.rmdir()


@pytest.fixture
def on_small_disk(servers: Servers, template: str, small_disk: Path) -> Iterator[str]:
    """A migrated database on it."""
    name = f"fsm_small_{uuid.uuid4().hex[:12]}"
    create = sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(sql.Identifier(name), str(small_disk))
    with psycopg.connect(plain(servers.database_url), autocommit=True) as connection:
        connection.execute(create)
    try:
        administer(servers.database_url, "CREATE DATABASE {} TEMPLATE {} TABLESPACE {}", name, template, name)
        yield at_database(servers.database_url, name)
    finally:
        administer(servers.database_url, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
        administer(servers.database_url, "DROP TABLESPACE {}", name)


def fill(file: Path) -> None:
    """Until there is no space left."""
    with file.open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(1 << 16))


def test_a_full_disk_is_a_typed_error_and_leaves_nothing_half_done(
    on_small_disk: str, small_disk: Path
) -> None:
    """Row 24. What was told as done is there, what was refused is not; when there is room again, work goes on."""
    engine = create_engine(on_small_disk)
    store = PostgresStore(engine)
    store.start(orders, 7, New(1))
    fill(small_disk / "ballast")
    draw, done = random.Random(24), 0

    def until_full() -> None:
        nonlocal done
        for _ in range(1000):
            store.advance(orders, 7, Note(draw.randbytes(20_000).hex()))
            done += 1

    with pytest.raises(DatabaseError) as caught:
        until_full()
    assert caught.value.sqlstate == "53100"
    assert store.get(orders, 7).seq == done
    assert [e.seq for e in store.history(orders, 7)] == list(range(done + 1))

    (small_disk / "ballast").unlink()

    assert store.advance(orders, 7, Note("again")).seq == done + 1
    engine.dispose()


@pytest.fixture
def role(database_url: str) -> Iterator[str]:
    """The address of a role that is no superuser: only those have no limit of connections."""
    name = f"fsm_{uuid.uuid4().hex[:12]}"
    for statement in (
        "CREATE ROLE {} LOGIN",
        "GRANT USAGE ON SCHEMA fsm TO {}",
        "GRANT ALL ON ALL TABLES IN SCHEMA fsm TO {}",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA fsm TO {}",
    ):
        administer(database_url, statement, name)
    yield make_url(database_url).set(username=name).render_as_string(hide_password=False)
    administer(database_url, OTHERS)
    administer(database_url, "DROP OWNED BY {}", name)
    administer(database_url, "DROP ROLE {}", name)


def test_too_few_connections_are_waited_for(cluster: Broken, role: str) -> None:
    """Row 25. Relay and worker say so, back off, and go on as soon as there are enough."""
    name = make_url(role).username or ""
    cluster.env["DATABASE_URL"] = role
    cluster.relay()
    cluster.worker()
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go",)))
    eventually(lambda: "start wait:go 1" in notes(cluster.notes), what="the effect runs")

    administer(cluster.database_url, "ALTER ROLE {} CONNECTION LIMIT 0", name)
    cluster.engine.dispose()
    administer(cluster.database_url, OTHERS)
    cluster.store.advance(jobs, "a", Do(("meanwhile",)))
    cluster.open("go")
    for process in ("relay", "worker"):
        eventually(
            lambda process=process: "too many connections" in cluster.log(process), timeout=30, what="told"
        )
    caller = create_engine(role)
    with pytest.raises(DatabaseUnavailable, match="too many connections"):
        PostgresStore(caller).get(jobs, "a")

    administer(cluster.database_url, "ALTER ROLE {} CONNECTION LIMIT -1", name)

    cluster.settled(timeout=60)
    assert sorted(PostgresStore(caller, machines=[jobs]).get(jobs, "a").state.done) == [
        "meanwhile",
        "wait:go",
    ]
    assert cluster.ended == []
    caller.dispose()


def test_the_schema_may_go_down_and_up_under_load(engine: Engine, database_url: str) -> None:
    """Row 27. Callers meet typed errors at most, and every event that was told as done is there once."""
    store, stop = PostgresStore(engine), threading.Event()
    told: dict[str, int] = {}
    unexpected: list[Exception] = []

    def calls(key: str) -> None:
        store.start(door, key)
        for n in range(1_000_000):
            if stop.is_set():
                return
            try:
                told[key] = store.advance(door, key, Close() if n % 2 else Open()).seq
            except StoreError:
                pass
            except Exception as error:  # noqa: BLE001 - whatever else there is, is what this test looks for
                unexpected.append(error)

    threads = [threading.Thread(target=calls, args=(f"door {n}",)) for n in range(3)]
    with ExitStack() as ends:
        for thread in threads:
            thread.start()
            ends.callback(thread.join)
        ends.callback(stop.set)
        for revision in ("-1", "head") * 2:
            before = dict(told)
            if revision == "head":
                eventually(lambda: played(lambda: upgrade(database_url)), timeout=30, what="it is up")
                eventually(lambda b=before: told != b, timeout=30, what="calls succeed again")
            else:
                eventually(lambda: len(told) == 3, what="all callers are at work")
                eventually(
                    lambda: played(lambda: downgrade(database_url, "-1")), timeout=30, what="it is down"
                )

    assert unexpected == []
    assert len(set(status(database_url))) == 1
    for key, seq in told.items():
        assert [e.seq for e in store.history(door, key)][: seq + 1] == list(range(seq + 1))
        assert store.advance(door, key, Lock(1)).seq > seq


def played(migration: Callable[[], None]) -> bool:
    """Whether it went through; one that meets a deadlock or a lock that is held too long changed nothing, and is tried again."""
    try:
        migration()
    except (Busy, StoreError):
        return False
    return True


def test_a_migration_waits_for_a_lock_no_longer_than_it_is_told(engine: Engine, database_url: str) -> None:
    """Row 27. Else every caller would wait behind it, for as long as somebody's transaction is open. Nothing is changed then."""
    store = PostgresStore(engine)
    store.start(door, "front")
    downgrade(database_url, "-1")
    before = status(database_url)
    with engine.connect() as somebody:
        read_everything(somebody)
        with pytest.raises(Busy, match="lock timeout"):
            upgrade(f"{database_url}{'&' if '?' in database_url else '?'}options=-clock_timeout%3D100ms")

    assert status(database_url) == before
    upgrade(database_url)
    assert store.advance(door, "front", Close()).seq == 1


def read_everything(connection: Connection) -> None:
    """Whatever the last migration changes, somebody has read it, and leaves the transaction open."""
    tables = (
        connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'fsm'")).scalars().all()
    )
    for table in tables:
        connection.execute(text(f"SELECT 1 FROM fsm.{table} LIMIT 1"))
