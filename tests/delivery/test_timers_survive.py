"""Timers outlive the database that keeps them: what is committed is there after a crash."""

import os
import signal
from datetime import timedelta
from uuid import uuid4

import psycopg
from sqlalchemy import create_engine, text

from fsm_core.delivery.finish import finish
from fsm_core.delivery.outcome import Completed, Result
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.migrate import upgrade
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.registry import Registry
from tests.store.world import plain
from tests.waiting import eventually
from tests.workers.clock import Arm, Idle, Work, clock
from workers.dev.servers import embedded_servers


def answers(url: str) -> bool:
    try:
        with psycopg.connect(plain(url)) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def crash(url: str) -> None:
    """Kill one of the server's processes: it ends all others and starts anew from what is on disk."""
    with psycopg.connect(plain(url)) as victim, psycopg.connect(plain(url)) as beside:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        eventually(lambda: broken(beside), what="the server ends its other connections")
        victim.close()


def broken(connection: psycopg.Connection[object]) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        connection.close()
        return True
    return False


def test_a_timer_and_a_state_timeout_fire_after_a_crash_of_postgres() -> None:
    """Nobody has to remember them: the relay finds the rows, due by the clock that went on meanwhile."""
    with embedded_servers(None, None) as servers:
        url = servers.database_url
        upgrade(url)
        engine = create_engine(url)
        store = PostgresStore(engine)
        store.start(clock, "rings")
        store.advance(clock, "rings", Arm(3600, 1))
        store.start(clock, "waits")
        store.advance(clock, "waits", Work())
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE fsm.actions SET run_at = run_at + interval '1 hour' WHERE timer LIKE 'state:%'")
            )
        before = [(a.id, a.name, a.status, a.run_at) for a in store.actions()]

        crash(url)
        eventually(lambda: answers(url), timeout=60, what="the server is back")
        engine.dispose()

        assert [(a.id, a.name, a.status, a.run_at) for a in store.actions()] == before
        outbox, ticket = PostgresOutbox(engine), uuid4()
        assert outbox.publish("default", 10, ticket) == []
        waits = outbox.next_due(["default"])
        assert waits is not None
        assert waits > timedelta(minutes=50)
        with engine.begin() as connection:
            connection.execute(text("UPDATE fsm.actions SET run_at = clock_timestamp()"))
        rows = outbox.publish("default", 10, ticket)
        claims = outbox.claim(uuid4(), [row.id for row in rows], ticket, uuid4())
        finished = finish(outbox, Registry([clock]), [Result(claim, Completed()) for claim in claims])

        assert len(finished.done) == 2
        assert store.get(clock, "rings").state == Idle(1)
        assert store.get(clock, "waits").status == "done"
        engine.dispose()
