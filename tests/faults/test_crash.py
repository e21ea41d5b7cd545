"""Postgres crashes while everybody is at work, and comes back."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from uuid import uuid4

import pytest
from sqlalchemy import create_engine

from chaos.servers import Postgres
from fsm_core.errors import StoreError
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.engine import own_engine
from fsm_core.postgres.migrate import upgrade
from fsm_core.postgres.outbox import PostgresOutbox
from tests.faults.conftest import Broken
from tests.waiting import eventually
from tests.workers.jobs import Do, jobs, notes
from workers.dev.directory import private_directory

BACK = 10.0
"""Seconds from the server's first answer until an effect of what was called then has ended: what row 12 promises."""


@pytest.fixture
def server() -> Iterator[Postgres]:
    with private_directory() as folder, Postgres(folder) as postgres:
        upgrade(postgres.url())
        yield postgres


@pytest.fixture
def database_url(server: Postgres) -> str:
    """The cluster's, for once on a server of the test's own."""
    return server.url()


class Caller(threading.Thread):
    """Advances a machine of its own until it is told to stop; each call is known by the lane that its event names."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__()
        self.key = key
        self.told: list[str] = []
        self.refused: list[str] = []
        self.unexpected: list[Exception] = []
        self.stopped = threading.Event()
        self._engine = create_engine(url)
        PostgresStore(self._engine).start(jobs, key)

    def run(self) -> None:
        store, n = PostgresStore(self._engine), 0
        while not self.stopped.wait(0.01):
            n += 1
            try:
                store.advance(jobs, self.key, Do((), lane=str(n)))
                self.told.append(str(n))
            except StoreError:
                self.refused.append(str(n))
            except Exception as error:  # noqa: BLE001 - whatever else there is, is what this test looks for
                self.unexpected.append(error)
        self._engine.dispose()


@pytest.fixture
def callers(cluster: Broken) -> Iterator[list[Caller]]:
    with ExitStack() as ends:
        callers = [Caller(cluster.database_url, f"caller {n}") for n in range(2)]
        for caller in callers:
            caller.start()
            ends.callback(caller.join)
        for caller in callers:
            ends.callback(caller.stopped.set)
        yield callers


def crash(server: Postgres, callers: list[Caller]) -> None:
    """With calls under way; it stays away until each caller has met it."""
    before = {caller: (len(caller.told), len(caller.refused)) for caller in callers}
    eventually(
        lambda: all(len(c.told) > before[c][0] for c in callers), timeout=30, what="all callers are at work"
    )
    server.immediate()
    eventually(
        lambda: all(len(c.refused) > before[c][1] for c in callers), timeout=30, what="all were refused"
    )
    server.start()


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_seconds_after_a_crash_calls_go_through_and_their_effects_run(
    cluster: Broken, server: Postgres, callers: list[Caller], pool: str
) -> None:
    """Row 12. Twice, with an effect under way: whoever called meanwhile was told, or met a typed error, and nobody gave up."""
    cluster.relay()
    cluster.worker(pool=pool, slots=2)
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go",)))
    eventually(lambda: "start wait:go 1" in notes(cluster.notes), timeout=30, what="an effect runs")
    after = [f"after crash {n}" for n in range(2)]

    for plan in after:
        crash(server, callers)
        deadline = time.monotonic() + BACK
        cluster.store.advance(jobs, "a", Do((plan,)))
        eventually(
            lambda plan=plan: f"end {plan} 1" in notes(cluster.notes), timeout=deadline - time.monotonic(),
            what=f"{plan} is run; worker: {cluster.log('worker')}; relay: {cluster.log('relay')}",
        )  # fmt: skip
    cluster.open("go")
    cluster.engine.dispose()  # the test's own looks are no callers

    assert {a.status.value for a in cluster.settled(timeout=60)} == {"completed"}
    assert sorted(cluster.store.get(jobs, "a").state.done) == [*after, "wait:go"]
    assert cluster.ended == []
    for caller in callers:
        caller.stopped.set()
        caller.join()
        log = cluster.store.history(jobs, caller.key)
        recorded = [str(entry.payload["lane"]) for entry in log if entry.name == "Do"]
        assert caller.unexpected == []
        assert len(set(recorded)) == len(recorded)
        assert set(caller.told) <= set(recorded) <= {*caller.told, *caller.refused}


def test_a_connection_that_died_unnoticed_costs_no_message(server: Postgres) -> None:
    """Row 12. A worker that was idle in the crash claims at once: a message that it drops waits for the reconciler."""
    engine = own_engine(server.url())
    with closing(PostgresOutbox(engine)) as outbox:
        store, ticket = PostgresStore(engine), uuid4()
        store.start(jobs, "a")
        store.advance(jobs, "a", Do(("one",)))
        (row,) = outbox.publish("default", 10, ticket)

        server.immediate()
        server.start()

        assert [claimed.id for claimed in outbox.claim(uuid4(), [row.id], ticket, uuid4())] == [row.id]
