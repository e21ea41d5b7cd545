"""Limits of whole queues: what is under one is not blocked at commit, and no more of it leaves than there is room for."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from uuid import uuid4

from sqlalchemy import Engine, text

from fsm_core import ActionStatus
from fsm_core.delivery.ports import Queue
from fsm_core.delivery.relay import Relay
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from tests.delivery import passes
from tests.delivery.calls import Make, calls
from tests.delivery.passes import HOUR, LEASE, ask, claim, relays, tick
from tests.delivery.test_relay import FakeBroker

store = passes.store


def limited(slots: int = 100) -> dict[str, Queue]:
    return {"default": Queue(slots, None, limited=True)}


def out(engine: Engine) -> int:
    return int(ask(engine, "SELECT count(*) FROM fsm.actions WHERE status IN ('published', 'running')")[0][0])


def test_a_queues_limit_holds_for_what_is_published_and_running(engine: Engine, store: PostgresStore) -> None:
    """Its actions are not blocked at commit; no more of them leave than the limit has room for. A retry is one more start."""
    store.limit("queue:default", max_running=3)
    store.advance(calls, "m", Make(10, limit=None))
    assert {each.status for each in store.actions()} == {ActionStatus.PENDING}

    broker = tick(engine, queues=limited())
    assert len(broker.ids) == 3
    done = Relay(PostgresOutbox(engine), FakeBroker(), uuid4).tick(limited(), admit=True)
    assert (done.published, done.full) == (0, True)
    running = claim(engine, broker)
    assert tick(engine, queues=limited()).ids == []
    store.cancel_action(running[0])
    assert len(tick(engine, queues=limited()).ids) == 1
    assert out(engine) == 3


def test_the_relay_knows_which_queues_have_a_limit(engine: Engine, store: PostgresStore) -> None:
    """It asks once a second; a queue of another name is not meant."""
    outbox = PostgresOutbox(engine)
    outbox.register(
        uuid4(), kind="node", host="h", pid=1, queues={"default": 4, "other": 1}, known={}, lease=LEASE
    )
    store.limit("queue:default", max_running=3)
    store.limit("other", max_running=3)

    assert {name: queue.limited for name, queue in outbox.queues().items()} == {
        "default": True,
        "other": False,
    }


def test_relays_at_once_publish_no_more_than_a_queues_limit(
    engine: Engine, store: PostgresStore, database_url: str
) -> None:
    """The limit's row is the lock: what is counted behind it is exact, however many are at it."""
    store.limit("queue:default", max_running=3, rate=20, per=HOUR)
    store.advance(calls, "m", Make(60, limit=None))
    seen: list[int] = []

    def run(outbox: PostgresOutbox) -> int:
        total = 0
        for _ in range(40):
            start.wait(30)
            total += len(outbox.publish_limited("default", 50, uuid4()).rows)
            start.wait(30)
            if outbox is every[0]:
                seen.append(out(engine))
                for each in store.actions(status="published", limit=2):
                    store.cancel_action(each.id)
            start.wait(30)
        return total

    start = Barrier(4)
    with relays(database_url, 4) as every, ThreadPoolExecutor(4) as pool:
        published = sum(pool.map(run, every))

    assert max(seen) == 3
    assert published == 20


def test_a_queue_without_a_token_is_closed_until_the_next_one(engine: Engine, store: PostgresStore) -> None:
    """The tick says when, and that its due rows are no reason to look before; without a limit's row nothing leaves."""
    store.limit("queue:default", rate=10, per=HOUR, burst=2)
    store.advance(calls, "m", Make(5, limit=None))
    step = Relay(PostgresOutbox(engine), FakeBroker(), uuid4)

    assert step.tick(limited(), admit=True).published == 2
    second = step.tick(limited(), admit=True)
    assert (second.published, second.idle, second.closed) == (0, True, {"default"})
    assert second.wake is not None
    assert timedelta(seconds=300) < second.wake <= timedelta(seconds=361)
    with engine.begin() as connection:
        connection.execute(text("UPDATE fsm.buckets SET refilled_at = refilled_at - interval '370 s'"))
    assert step.tick(limited(), admit=True).published == 1

    store.remove_limit("queue:default")
    assert step.tick(limited(), admit=True).full


def test_a_publish_that_fails_gives_the_place_back(engine: Engine, store: PostgresStore) -> None:
    """The row goes back to pending, and with it its place; only its token is gone."""
    store.limit("queue:default", max_running=1)
    store.advance(calls, "m", Make(2, limit=None))
    broker = FakeBroker()
    broker.down = True
    step = Relay(PostgresOutbox(engine), broker, uuid4)
    assert step.tick(limited(), admit=True).broker_down is not None

    broker.down = False
    assert step.tick(limited(), admit=True).published == 1
