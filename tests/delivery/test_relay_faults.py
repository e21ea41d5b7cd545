"""The relay's statements beside others: nothing waits, nothing hides what was lost, nothing stays asleep."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

from fsm_core import ActionStatus
from fsm_core.delivery.finish import finish
from fsm_core.delivery.outcome import GaveUp, Result
from fsm_core.delivery.ports import Cursor
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.statements import channel, relay
from fsm_core.registry import Registry
from tests.delivery.test_relay import age
from tests.workers.jobs import Do, jobs

LEASE = timedelta(seconds=15)


def test_what_the_children_of_a_worker_claimed_is_evidence(engine: Engine) -> None:
    """Under prefork the node row serves the queue and the children claim: their rows say up to when."""
    outbox, node, child = PostgresOutbox(engine), uuid4(), uuid4()
    for worker, kind, queues in ((node, "node", {"default": 4}), (child, "child", {})):
        outbox.register(worker, kind=kind, host="host", pid=1, queues=queues, known={}, lease=LEASE)
    newest = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    assert outbox.queues()["default"].claimed_up_to is None
    outbox.beat(child, LEASE, {"default": (1, newest.isoformat(), 3)})

    assert outbox.queues()["default"] == (4, newest, False, 3)


def test_admission_waits_for_nobody(engine: Engine, database_url: str) -> None:
    """A head that somebody has locked (a cancel) is left for the next pass: waiting could deadlock."""
    impatient = create_engine(database_url, connect_args={"options": "-c lock_timeout=1000"})
    store, outbox = PostgresStore(engine), PostgresOutbox(impatient)
    store.start(jobs, "a")
    store.advance(jobs, "a", Do(("one",), lane="x"))
    store.advance(jobs, "a", Do(("two",), lane="y"))

    with engine.begin() as connection:
        connection.execute(text("SELECT 1 FROM fsm.actions WHERE lane = 'key:x' FOR UPDATE"))
        assert outbox.admit(Cursor()).rows == 1
    assert outbox.admit(Cursor()).rows == 1
    assert {a.status for a in store.actions()} == {ActionStatus.PENDING}
    impatient.dispose()


def test_a_queue_that_only_waits_does_not_hide_what_another_lost(engine: Engine) -> None:
    """A pass is bounded for each queue: 500 older rows of one must not keep the other from being repaired."""
    store, outbox = PostgresStore(engine), PostgresOutbox(engine)
    store.start(jobs, "a")
    store.advance(jobs, "a", Do(tuple(f"job {n}" for n in range(501)), queue="slow"))
    outbox.publish("slow", 501, uuid4())
    store.advance(jobs, "a", Do(("lost",), queue="other"))
    outbox.publish("other", 1, uuid4())
    age(engine, 60)

    late = outbox.overdue(["slow", "other"], timedelta(seconds=5))

    assert [row.queue for row in late].count("other") == 1


def test_the_cancel_of_a_machine_rings_for_those_behind_its_lanes(engine: Engine, database_url: str) -> None:
    """Its lane is free: a relay that sleeps is woken, as by the cancel of one action."""
    store = PostgresStore(engine)
    for key in ("a", "b"):
        store.start(jobs, key)
        store.advance(jobs, key, Do(("one",), lane="x"))
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)

    with psycopg.connect(url, autocommit=True) as sleeper:
        sleeper.execute(f"LISTEN {channel('fsm')}")
        sleeper.execute(relay.TAKE_BELL.on("fsm").encode())
        store.cancel(jobs, "a")
        assert len(list(sleeper.notifies(timeout=5, stop_after=1))) == 1


def test_an_operators_retry_keeps_the_last_attempt_on_record(engine: Engine) -> None:
    """Every start of an effect is explained, also the one that stood on the row when it was retried."""
    store, outbox, ticket = PostgresStore(engine), PostgresOutbox(engine), uuid4()
    store.start(jobs, "a")
    store.advance(jobs, "a", Do(("one",)))
    for _ in range(2):
        rows = outbox.publish("default", 1, ticket)
        (claimed,) = outbox.claim(uuid4(), [row.id for row in rows], ticket, uuid4())
        finish(outbox, Registry([jobs]), [Result(claimed, GaveUp("no"))])
        (action,) = store.retry([claimed.id])

    found = store.action(action)
    assert [(a.number, a.outcome, a.error) for a in found.attempts] == [
        (1, "error", "no"),
        (2, "error", "no"),
    ]
