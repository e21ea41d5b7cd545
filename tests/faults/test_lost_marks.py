"""A relay's commits do not wait for the disk: what a crash takes back is done again, and what was sent meanwhile is void."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from chaos.servers import Postgres
from fsm_core import ActionStatus
from fsm_core.delivery.ports import Claimed
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.engine import own_engine
from fsm_core.postgres.migrate import upgrade
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.types import ActionId
from tests.workers.jobs import Do, jobs
from workers.app import configured
from workers.dev.directory import private_directory
from workers.relay import RelayProcess
from workers.settings import read


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of the test's own that is in no hurry to write its log: what does not ask for it is lost in a crash."""
    with private_directory() as folder, Postgres(folder) as postgres:
        with postgres.connect() as connection:
            connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
            connection.execute("ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
            connection.execute("SELECT pg_reload_conf()")
        upgrade(postgres.url())
        yield postgres


def crash(server: Postgres, *engines: Engine) -> None:
    """At once, as `pg_ctl -m immediate`."""
    server.immediate()
    for engine in engines:
        engine.dispose()
    server.start()


def test_a_mark_that_a_crash_took_back_is_made_again_and_its_message_is_void(server: Postgres) -> None:
    with ExitStack() as stack:
        relaying, working = own_engine(server.url(), durable=False), own_engine(server.url())
        stack.callback(relaying.dispose)
        stack.callback(working.dispose)
        relay, worker = PostgresOutbox(relaying), PostgresOutbox(working)
        store = PostgresStore(working)
        store.start(jobs, "a")
        store.advance(jobs, "a", Do(("one",)))
        lost, sent = uuid4(), uuid4()
        action = relay.publish("default", 10, lost)[0].id

        crash(server, relaying, working)
        assert [a.status for a in store.actions()] == [ActionStatus.PENDING]

        assert claimed(worker, action, lost) == []
        assert [row.id for row in relay.publish("default", 10, sent)] == [action]
        assert claimed(worker, action, lost) == []
        assert [row.id for row in claimed(worker, action, sent)] == [action]

        crash(server, relaying, working)
        assert [a.status for a in store.actions()] == [ActionStatus.RUNNING]


def test_it_is_the_relays_commits_that_do_not_wait(database_url: str, tmp_path: Path) -> None:
    """Those of a worker do: an effect would have run that no attempt explains."""
    settings = read({}, {"DATABASE_URL": database_url, "BROKER_URL": f"filesystem://{tmp_path}"})
    relaying = RelayProcess(settings, configured())._store._own._engine

    assert [waits(engine) for engine in (relaying, own_engine(database_url))] == ["off", "on"]


def waits(engine: Engine) -> str:
    """Whether its commits wait for the disk."""
    with engine.connect() as connection:
        found = str(connection.execute(text("SHOW synchronous_commit")).scalar())
    engine.dispose()
    return found


def claimed(worker: PostgresOutbox, action: ActionId, ticket: UUID) -> list[Claimed]:
    return worker.claim(uuid4(), [action], ticket, uuid4())
