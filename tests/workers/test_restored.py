"""Rows that were rebuilt have an unknown outcome: a probe is asked before the effect, by a worker and in memory alike."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from fsm_core import ActionStatus
from fsm_core.audit import fsck
from fsm_core.memory import MemoryStore
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.registry import AnyEffects, Registry
from tests.audit.fetching import Go, Idle, effects, fetching
from workers.runtime import Runtime
from workers.settings import Settings

Make = Callable[[AnyEffects], Runtime]


@pytest.fixture
def make(database_url: str) -> Iterator[Make]:
    made: list[Runtime] = []

    def runtime(run: AnyEffects) -> Runtime:
        settings = Settings(database_url, lease=timedelta(seconds=30))
        made.append(Runtime(settings, Registry([run]), kind="node", queues={"fetch": 4}, slots=4))
        return made[-1]

    yield runtime
    for each in made:
        each.close()


def test_a_worker_asks_the_probe_first(engine: Engine, make: Make) -> None:
    """What has happened is not done again; what has not is done, in the same attempt. The key is the one that it was."""
    store, outbox, ticket = PostgresStore(engine), PostgresOutbox(engine), uuid4()
    store.start(fetching, "a")
    for name in ("x", "y"):
        store.advance(fetching, "a", Go(name))
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM fsm.actions WHERE name = 'Fetch'"))
    restored = store.restore(fetching, "a")
    ran: list[str] = []
    runtime = make(effects(fetching, ran, happened=("x",)))

    ids = [row.id for row in outbox.publish("fetch", 10, ticket)]
    runtime.handle(ticket, ids)
    assert runtime._finisher.flush(10)

    assert sorted(ids) == restored
    assert sorted(ran) == ["fetch y", "probe x", "probe y"]
    assert store.get(fetching, "a").state == Idle(2.0)
    assert {a.status for a in store.actions(action="Fetch")} == {ActionStatus.COMPLETED}
    assert fsck(store.log(fetching, "a"), store.registry).findings == []


def test_drain_asks_the_probe_first() -> None:
    """The store in memory does as a worker does; a lane goes on with the restored row, which is the older one."""
    ran: list[str] = []
    store = MemoryStore(effects(fetching, ran, happened=("lane:x",)))
    store.start(fetching, "a")
    store.advance(fetching, "a", Go("lane:x"))
    lost = store.actions(action="Fetch")[0].id
    store.clock.advance(1)
    store.advance(fetching, "a", Go("lane:y"))
    tables = store._tables
    tables.of_machine[lost.machine_id].remove(tables.actions.pop(lost))

    assert store.restore(fetching, "a") == [lost]
    store.drain()

    assert [each for each in ran if each != "tell"] == ["probe lane:x", "fetch lane:y"]
    assert store.get(fetching, "a").state == Idle(2.0)
