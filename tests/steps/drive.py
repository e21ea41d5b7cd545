"""Running flows in the test's own thread, on every kind of store: relay and worker in one loop, due times skipped."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import create_engine

from fsm_core.delivery.finish import Finished, finish, finish_alone
from fsm_core.delivery.outcome import Completed, Outcome, Result
from fsm_core.delivery.ports import Claimed, Cursor
from fsm_core.memory import Clock
from fsm_core.memory.attempt import Runner
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.urls import engine_url
from fsm_core.registry import AnyEffects, AnyMachine, Registry
from tests.store.world import MemoryWorld, PostgresWorld, World

MOST = 500


class Now(Clock):
    """The time as it is, which goes on by itself."""

    def now(self) -> datetime:
        return datetime.now(UTC)


def drive(world: World, *entries: AnyMachine | AnyEffects, jump: bool = True) -> int:
    """Run what is due, and what that causes, until nothing is. Returns how many actions were taken.

    jump: what waits for its time is taken as due, the earliest first.
    """
    if isinstance(world, MemoryWorld):
        done = world.origin.reopen(*entries).drain(jump=jump)
        assert done.bugs == ()
        return done.ran
    assert isinstance(world, PostgresWorld)
    engine = create_engine(engine_url(world.url))
    try:
        return _driven(world, PostgresOutbox(engine), Registry(entries), jump=jump)
    finally:
        engine.dispose()


def _driven(world: PostgresWorld, outbox: PostgresOutbox, registry: Registry, *, jump: bool) -> int:
    taken = 0
    with Runner(registry, Now()) as runner:
        for _ in range(MOST):
            results = [Result(each, _run(runner, each)) for each in _claimed(world, outbox)]
            for result in results:
                _account(outbox, registry, finish(outbox, registry, [result]))
            taken += len(results)
            if not results and not (jump and _jumped(world)):
                return taken
    raise AssertionError("it never comes to an end")


def _claimed(world: PostgresWorld, outbox: PostgresOutbox) -> list[Claimed]:
    outbox.admit(Cursor())
    ticket = uuid4()
    queues = [queue for (queue,) in world.sql("SELECT DISTINCT queue FROM fsm.actions")]
    ids = [row.id for queue in queues for row in outbox.publish(queue, 100, ticket)]
    return outbox.claim(uuid4(), ids, ticket, uuid4())


def _run(runner: Runner, claimed: Claimed) -> Outcome:
    return Completed() if claimed.outcome is not None else runner.run(claimed)


def _jumped(world: PostgresWorld) -> bool:
    """Bring what waits nearer by as long as the first of it still has to wait."""
    return bool(
        world.sql(
            """
            WITH waits AS (
                SELECT a.machine_id, a.seq, a.idx, a.run_at - (min(a.run_at) OVER () - clock_timestamp()) AS at
                  FROM fsm.actions a WHERE a.status IN ('pending', 'blocked') AND a.run_at > clock_timestamp())
            UPDATE fsm.actions a SET run_at = w.at FROM waits w
             WHERE (a.machine_id, a.seq, a.idx) = (w.machine_id, w.seq, w.idx) RETURNING 1"""
        )
    )


def _account(outbox: PostgresOutbox, registry: Registry, finished: Finished) -> None:
    assert finished.broken == []
    assert finished.refused == []
    for result in (*finished.alone, *finished.stuck):
        _account(outbox, registry, finish_alone(outbox, registry, result))


def pass_time(world: World, span: timedelta) -> None:
    """Let `span` go by: for what waits in a database, without waiting."""
    if isinstance(world, PostgresWorld):
        waits = "status IN ('pending', 'blocked')"
        world.sql(f"UPDATE fsm.actions SET run_at = run_at - %s::interval WHERE {waits}", span)
    else:
        world.pass_time(span)
