"""What limits are looked at with: a relay's tick, a worker's claim, several relays, counted rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from fsm_core.delivery.ports import Queue
from fsm_core.delivery.relay import Relay
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.engine import own_engine
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.types import ActionId
from tests.delivery.calls import calls
from tests.delivery.test_relay import FakeBroker

LEASE = timedelta(seconds=15)
HOUR = timedelta(hours=1)


@pytest.fixture
def store(engine: Engine) -> PostgresStore:
    store = PostgresStore(engine, machines=[calls])
    store.start(calls, "m")
    return store


def ask(engine: Engine, query: str, **given: object) -> Any:
    with engine.connect() as connection:
        return connection.execute(text(query), given).all()


def active(engine: Engine, key: str = "a") -> int:
    query = "SELECT count(*) FROM fsm.actions WHERE limit_key = :key AND status IN ('pending', 'published', 'running')"
    return int(ask(engine, query, key=key)[0][0])


def tick(engine: Engine, *, queues: dict[str, Queue] | None = None) -> FakeBroker:
    broker = FakeBroker()
    Relay(PostgresOutbox(engine), broker, uuid4).tick(queues or {"default": Queue(100, None)}, admit=True)
    return broker


def claim(engine: Engine, broker: FakeBroker) -> list[ActionId]:
    """A worker that no row knows starts whatever was sent."""
    outbox = PostgresOutbox(engine)
    return [c.id for m in broker.sent for c in outbox.claim(uuid4(), m.ids, m.ticket, uuid4())]


@contextmanager
def relays(database_url: str, how_many: int) -> Iterator[list[PostgresOutbox]]:
    made = [PostgresOutbox(own_engine(database_url)) for _ in range(how_many)]
    yield made
    for each in made:
        each.close()
