"""Delivery in the test's own thread, for every kind of store: what is due and known is applied, until nothing is."""

from uuid import uuid4

from sqlalchemy import create_engine

from fsm_core.delivery.finish import Finished, finish, finish_alone
from fsm_core.delivery.outcome import Completed, Result
from fsm_core.delivery.ports import Cursor
from fsm_core.memory import Drained
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.urls import engine_url
from fsm_core.registry import AnyEffects, AnyMachine, Registry
from tests.store.world import MemoryWorld, PostgresWorld, World

MOST = 200


def deliver(world: World, *entries: AnyMachine | AnyEffects, group: bool = True) -> int:
    """Apply what is due and has a known outcome (timers, messages); no effect is run. Returns how many rows were taken.

    group: all that is due at once, as a worker does; else one by one.
    """
    if isinstance(world, MemoryWorld):
        return _drained(world.origin.reopen(*entries).drain())
    assert isinstance(world, PostgresWorld)
    engine = create_engine(engine_url(world.url))
    try:
        return _delivered(world, PostgresOutbox(engine, cipher=world.cipher), Registry(entries), group)
    finally:
        engine.dispose()


def _drained(done: Drained) -> int:
    assert done.bugs == ()
    return done.ran


def _delivered(world: PostgresWorld, outbox: PostgresOutbox, registry: Registry, group: bool) -> int:
    total = 0
    for _ in range(MOST):
        queues = [
            q
            for (q,) in world.sql(
                "SELECT DISTINCT queue FROM fsm.actions WHERE status IN ('pending', 'blocked')"
            )
        ]
        outbox.admit(Cursor())
        ticket = uuid4()
        rows = [row for queue in queues for row in outbox.publish(queue, MOST if group else 1, ticket)]
        known = [
            row
            for row in rows
            if row.action in {"After", "At", "Timeout", "Send", "ChildEnded", "CancelChildren"}
        ]
        claimed = outbox.claim(uuid4(), [row.id for row in known], ticket, uuid4())
        if not claimed:
            return total
        total += len(claimed)
        _account(outbox, registry, finish(outbox, registry, [Result(each, Completed()) for each in claimed]))
    raise AssertionError("it never comes to an end")


def _account(outbox: PostgresOutbox, registry: Registry, finished: Finished) -> None:
    assert finished.broken == []
    for result in (*finished.alone, *finished.stuck):
        _account(outbox, registry, finish_alone(outbox, registry, result))
