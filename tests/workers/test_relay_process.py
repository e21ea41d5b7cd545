"""A relay's own process: what keeps it from publishing, how soon it looks again, what it leaves behind."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from fsm_core import ActionStatus
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.engine import own_engine
from fsm_core.postgres.outbox import PostgresOutbox
from tests.cli.machines import Coin, Counting, Kick, turnstile
from tests.store.aging import grow_old
from tests.store.world import PostgresWorld, plain
from tests.waiting import eventually
from tests.workers.jobs import Do, jobs
from workers.app import configured
from workers.relay import EVERY, POLL_FIRST, RelayProcess
from workers.settings import read


@pytest.fixture
def relay(database_url: str, broker_url: str) -> Iterator[RelayProcess]:
    """A relay that forgets what ended more than a day ago, and one worker that it may publish for."""
    app = configured()
    app.conf.broker_url = broker_url
    engine = own_engine(database_url)
    worker = PostgresOutbox(engine)
    worker.register(
        uuid4(),
        kind="node",
        host="here",
        pid=1,
        queues={"default": 4},
        known={},
        lease=timedelta(minutes=10),
    )
    worker.close()
    environ = {"DATABASE_URL": database_url, "BROKER_URL": broker_url, "FSM_FORGET": "1d"}
    relay = RelayProcess(read({}, environ), app)
    yield relay
    relay._store.close()
    relay._broker.close()


@contextmanager
def running(relay: RelayProcess) -> Iterator[None]:
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(relay.run)
        try:
            yield
        finally:
            relay.stop()
            done.result(30)


def published(store: PostgresStore) -> bool:
    return any(action.status is ActionStatus.PUBLISHED for action in store.actions())


def test_what_cannot_be_pruned_keeps_nothing_back(
    engine: Engine, database_url: str, relay: RelayProcess
) -> None:
    """An application's table may point to a machine that the relay would forget."""
    store = PostgresStore(engine)
    store.start(turnstile, "old", Counting())
    store.advance(turnstile, "old", Coin(50))
    store.advance(turnstile, "old", Kick())
    grow_old(PostgresWorld(store, plain(database_url)), 2)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mine AS SELECT id AS machine FROM fsm.machines"))
        connection.execute(text("ALTER TABLE mine ADD FOREIGN KEY (machine) REFERENCES fsm.machines (id)"))
    store.start(jobs, "a")
    store.advance(jobs, "a", Do(("x",)))

    with running(relay):
        eventually(lambda: published(store), what="the action is published")


def test_a_relay_leaves_no_connection(engine: Engine, relay: RelayProcess) -> None:
    store = PostgresStore(engine)
    store.start(jobs, "a")
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    def connections() -> int:
        with engine.connect() as connection:
            return int(str(connection.execute(text(others)).scalar()))

    before = connections()
    with running(relay):
        store.advance(jobs, "a", Do(("x",)))
        eventually(lambda: published(store), what="the action is published")

    eventually(lambda: connections() == before, what="its connections are closed")


def test_after_work_it_polls_often_again(engine: Engine, relay: RelayProcess) -> None:
    """Behind a pooler there is no bell: what had grown while there was nothing to do begins anew."""
    store = PostgresStore(engine)
    store.start(jobs, "a")
    store.advance(jobs, "a", Do(("x",)))
    relay._poll = EVERY

    assert relay._tick().published == 1

    assert relay._poll == POLL_FIRST
