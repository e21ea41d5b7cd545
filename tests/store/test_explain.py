"""`explain` on real rows: a machine in each predicament, and the answer."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import create_engine

from fsm_core.errors import MachineNotFound
from fsm_core.explain import explain
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.urls import engine_url
from tests.delivery.calls import Make, calls
from tests.store.machines import Charged, Drop, New, Pay, orders
from tests.store.world import PostgresWorld

MakeWorld = Callable[..., PostgresWorld]


def codes(world: PostgresWorld, key: object = 7) -> list[str]:
    return [reason.code for reason in explain(world.store.explain(orders, key), orders)]


def test_one_order_through_its_predicaments(world: PostgresWorld) -> None:
    outbox = PostgresOutbox(create_engine(engine_url(world.url)))
    lease, known = timedelta(seconds=60), {"orders": [1]}
    world.store.start(orders, 7, New(5))
    assert codes(world) == ["unread-version", "waits-for-event"]  # nobody is there at all

    worker = uuid4()
    outbox.register(worker, kind="node", host="here", pid=7, queues={"money": 4}, known=known, lease=lease)
    assert codes(world) == ["waits-for-event"]
    world.store.advance(orders, 7, Pay())
    assert codes(world) == ["no-relay"]

    outbox.register(uuid4(), kind="relay", host="here", pid=8, queues={}, known={}, lease=lease)
    assert codes(world) == ["admission"]  # the route gives it a partition key
    world.store.start(orders, 8, New(5))
    world.store.advance(orders, 8, Pay())
    world.sql(
        "UPDATE fsm.actions SET status = 'pending' WHERE machine_id = %s", world.store.get(orders, 7).id
    )
    assert codes(world) == ["due"]
    assert codes(world, 8) == ["lane"]
    assert "orders/7 has key:card" in explain(world.store.explain(orders, 8))[0].message

    ticket, claim = uuid4(), uuid4()
    (row,) = outbox.publish("money", 1, ticket)
    assert codes(world) == ["published"]
    outbox.claim(worker, [row.id], ticket, claim)
    assert codes(world) == ["running"]
    assert "here (pid 7), attempt 1" in explain(world.store.explain(orders, 7))[0].message
    outbox.retire(worker)
    assert codes(world) == ["unread-version", "lost-worker"]

    world.sql(
        "UPDATE fsm.actions SET status = 'failed', finished_at = now(), error = '{\"message\": \"no\"}'"
    )
    assert codes(world)[-1] == "failed"
    world.store.signal(orders, 9, Charged("early"))
    assert codes(world, 9) == ["unborn"]
    world.store.advance(orders, 7, Drop())
    world.store.retry([row.id])
    assert "ended" in codes(world)
    with pytest.raises(MachineNotFound):
        world.store.explain(orders, "nobody")
    outbox.close()


def test_a_limit_is_told_with_what_its_key_has(world: PostgresWorld) -> None:
    """Not with what others have; the limit of a queue holds back, too."""
    world.store.limit("api", max_running=1)
    for key, tenant in (("m", "a"), ("n", "b")):
        world.store.start(calls, key)
        world.store.advance(calls, key, Make(2, tenant))
    world.sql("UPDATE fsm.actions SET status = 'pending' WHERE idx = 0")

    reasons = explain(world.store.explain(calls, "m"))

    assert "under the limit 'api' of 'a': 1 run, 1 may" in " ".join(each.message for each in reasons)
    world.sql("UPDATE fsm.actions SET run_at = now() - interval '1 min' WHERE idx = 0")
    world.store.limit("queue:default", max_running=0)
    facts = world.store.explain(calls, "m")
    assert facts.limits["queue:default", ""].max_running == 0


def test_what_is_open_is_told_however_much_has_failed(world: PostgresWorld) -> None:
    """The oldest hundred would all be failures that the machine has heard of."""
    world.store.start(calls, "m")
    world.store.advance(calls, "m", Make(150, limit=None))
    world.sql("UPDATE fsm.actions SET status = 'failed', finished_at = now()")
    world.store.advance(calls, "m", Make(1, limit=None, queue="slow"))

    assert [each.queue for each in world.store.explain(calls, "m").actions[:2]] == ["slow", "default"]
