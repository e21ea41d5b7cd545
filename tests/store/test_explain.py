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
