"""A pooler in between: no statement is prepared and nothing is set there, and everything works by polling."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from fsm_core.postgres import AsyncPostgresStore, PostgresStore, pooler
from fsm_core.postgres.engine import own_engine
from tests.faults.conftest import Broken
from tests.store.machines import Drop, New, Note, orders
from tests.store.world import plain
from tests.waiting import eventually
from tests.workers.jobs import Do, jobs
from workers.bell import Bell
from workers.dev.leash import leashed

PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE statement NOT LIKE 'SET%'"
SETTINGS = (
    "lock_timeout",
    "plan_cache_mode",
    "enable_seqscan",
    "synchronous_commit",
    "idle_in_transaction_session_timeout",
)


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's process is another one than that of the login."""
    monkeypatch.setattr(pooler, "BACKEND", "SELECT 0")


@pytest.fixture
def pgbouncer(database_url: str, tmp_path: Path) -> Iterator[str]:
    """A real one before the test's database, in transaction mode, with three connections for everybody; its address."""
    if (program := shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")) is None:
        pytest.skip("needs PgBouncer on the PATH")
    where, port = conninfo_to_dict(plain(database_url)), free_port()
    target = " ".join(f"{name}={value}" for name, value in where.items())
    settings = tmp_path / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n{where['dbname']} = {target}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        "unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 3\n"
    )
    user = "nobody" if os.geteuid() == 0 else None  # it refuses to be root
    with settings.open() as file:  # it may not look into our folder, either
        process = subprocess.Popen(leashed([program, "--quiet", "/dev/stdin"], user=user), stdin=file)
    url = f"postgresql+psycopg://{where['user']}@127.0.0.1:{port}/{where['dbname']}"
    try:
        eventually(lambda: answers(url), what="PgBouncer answers")
        yield url
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with psycopg.connect(plain(url)):
            return True
    except psycopg.OperationalError:
        return False


def session(engine: Engine) -> tuple[int, list[str]]:
    """What the session of the engine's one connection keeps: prepared statements, and its settings."""
    with engine.connect() as connection:
        settings = [str(connection.execute(text(f"SHOW {name}")).scalar()) for name in SETTINGS]
        return int(str(connection.execute(text(PREPARED)).scalar())), settings


def test_directly_statements_are_prepared(engine: Engine) -> None:
    one = create_engine(engine.url, pool_size=1, max_overflow=0)
    used(PostgresStore(one))

    assert session(one)[0] > 0
    one.dispose()


@pytest.mark.usefixtures("pooled")
def test_behind_a_pooler_no_statement_is_prepared(engine: Engine) -> None:
    one = create_engine(engine.url, pool_size=1, max_overflow=0)
    used(PostgresStore(one))

    assert session(one)[0] == 0
    one.dispose()


@pytest.mark.usefixtures("pooled")
async def test_nor_by_the_asynchronous_store(database_url: str) -> None:
    engine = create_async_engine(database_url, pool_size=1, max_overflow=0)
    store = AsyncPostgresStore(engine)
    await store.start(orders, 1, New(1))
    for _ in range(10):
        await store.advance(orders, 1, Note())

    async with engine.connect() as connection:
        assert (await connection.execute(text(PREPARED))).scalar() == 0
    await engine.dispose()


@pytest.mark.usefixtures("pooled")
def test_behind_one_that_tracks_statements_they_are_prepared_if_somebody_says_so(engine: Engine) -> None:
    one = create_engine(engine.url, pool_size=1, max_overflow=0, connect_args={"prepare_threshold": 1})
    used(PostgresStore(one))

    assert session(one)[0] > 0
    one.dispose()


@pytest.mark.usefixtures("pooled")
def test_relays_and_workers_leave_no_setting_behind(engine: Engine, database_url: str) -> None:
    """A commit of somebody else's that does not wait for the disk, because a relay had that process before."""
    own = own_engine(database_url, durable=False)

    assert session(own)[1] == session(engine)[1]
    own.dispose()


@pytest.mark.usefixtures("pooled")
def test_a_bell_listens_to_nothing(database_url: str) -> None:
    with closing(Bell(database_url, "fsm", patience=30.0)) as bell:
        assert not bell.listens
        assert bell._connection.execute("SELECT pg_listening_channels()").fetchall() == []


def test_behind_pgbouncer_everything_works(pgbouncer: str, cluster: Broken) -> None:
    """Applications with default settings, a relay and a worker, all of them on the same three connections."""
    engine = create_engine(pgbouncer, pool_size=8)
    store = PostgresStore(engine, machines=[jobs])
    cluster.env["DATABASE_URL"] = pgbouncer
    cluster.relay()
    cluster.worker()

    def application(name: int) -> None:
        store.start(jobs, name)
        for n in range(15):
            store.advance(jobs, name, Do((f"{name}-{n}",)))

    store.start(orders, 7, New(1))
    with ThreadPoolExecutor(7) as pool:
        waiting = pool.submit(store.wait, orders, 7, timeout=timedelta(seconds=30))
        list(pool.map(application, range(6)))
        store.advance(orders, 7, Drop())
        assert waiting.result().seq == 1

    done = cluster.settled(60)
    assert len(done) == 90
    assert {action.status.value for action in done} == {"completed"}
    assert "LISTEN does not reach" in (cluster.folder / "relay.log").read_text()
    assert session(cluster.engine)[1] == session(engine)[1]
    engine.dispose()


def used(store: PostgresStore) -> None:
    """As often as it takes until psycopg prepares."""
    store.start(orders, 1, New(1))
    for _ in range(10):
        store.advance(orders, 1, Note())
