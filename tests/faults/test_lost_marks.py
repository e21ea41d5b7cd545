"""A relay's commits do not wait for the disk: what a crash takes back is done again, and what was sent meanwhile is void."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
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
from fsm_core.registry import Registry
from fsm_core.types import ActionId
from tests.workers.jobs import Do, jobs
from workers.app import configured
from workers.dev.directory import private_directory
from workers.relay import RelayProcess
from workers.runtime import Runtime
from workers.settings import read


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of the test's own that writes its log for nobody who does not ask for it: all else is lost in a crash."""
    with private_directory() as folder, Postgres(folder) as postgres:
        upgrade(postgres.url())
        signalled(postgres, signal.SIGSTOP)
        yield postgres


def signalled(server: Postgres, number: signal.Signals) -> None:
    """Send a signal to the process that writes the log in the background."""
    with server.connect() as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
        ((pid,),) = connection.execute(query).fetchall()
    os.kill(int(str(pid)), number)


def crash(server: Postgres, *engines: Engine) -> None:
    """At once, as `pg_ctl -m immediate`."""
    signalled(server, signal.SIGKILL)  # it would not hear of the end
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


def test_it_is_the_relays_commits_that_do_not_wait(database_url: str) -> None:
    """Those of a worker do, of its lease, and of what it tells other databases."""
    environ = {
        "DATABASE_URL": database_url,
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "FSM_SHARD": "a",
        "FSM_SHARDS": f"a={database_url} b={database_url}",
    }
    settings = read({}, environ)
    relay = RelayProcess(settings, configured())
    with closing(Runtime(settings, Registry([jobs]), kind="node", queues={"default": 1}, slots=1)) as worker:
        durable = [worker._store, worker._lease._store, worker._post._boxes["b"]]

        assert [waits(each._own._engine) for each in durable] == ["on"] * 3
        assert waits(relay._store._own._engine) == "off"


def waits(engine: Engine) -> str:
    """Whether its commits wait for the disk."""
    with engine.connect() as connection:
        found = str(connection.execute(text("SHOW synchronous_commit")).scalar())
    engine.dispose()
    return found


def claimed(worker: PostgresOutbox, action: ActionId, ticket: UUID) -> list[Claimed]:
    return worker.claim(uuid4(), [action], ticket, uuid4())
