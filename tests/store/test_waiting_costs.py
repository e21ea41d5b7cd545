"""What waiting takes: one connection and no more, nothing of those who do not wait, and an end whenever the caller wants one."""

import asyncio
import os
import signal
import threading
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from fsm_core.errors import DatabaseUnavailable
from fsm_core.postgres import AsyncPostgresStore, PostgresStore, waiting
from fsm_core.postgres.statements import ended_channel, waiters_place
from tests.store.conftest import MakeWorld
from tests.store.machines import Drop, New, orders
from tests.store.waits import listeners, waits_for
from tests.store.waits import waiting as begun
from tests.store.world import PostgresWorld, plain
from tests.waiting import eventually


def test_two_hundred_wait_over_a_pool_of_two_on_one_more_connection(make_world: MakeWorld) -> None:
    world = make_world(engine={"pool_size": 2, "max_overflow": 0})
    ids = {
        waiters_place(i): i for i in (world.store.start(orders, key, New(1)).id for key in range(200))
    }.values()
    done: list[Any] = []
    threads = [
        threading.Thread(target=lambda k=key: done.append(world.store.wait(orders, k, 60)))
        for key in range(200)
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: all(waits_for(world, each) for each in ids), timeout=60, what="all wait")

    assert listeners(world) == 1
    for key in range(200):
        world.store.advance(orders, key, Drop())
    for thread in threads:
        thread.join(30)

    assert {snapshot.key for snapshot in done} == {str(key) for key in range(200)}
    eventually(lambda: listeners(world) == 0, what="the connection is closed when nobody waits")


async def all_wait(store: AsyncPostgresStore, url: str, *machines: UUID) -> None:
    world = PostgresWorld(store, plain(url))

    def they_do() -> bool:
        return all(waits_for(world, each) for each in machines)

    await asyncio.to_thread(partial(eventually, they_do, timeout=60, what="all wait"))


async def test_two_hundred_tasks_wait_over_a_pool_of_two(database_url: str) -> None:
    engine = create_async_engine(database_url, pool_size=2, max_overflow=0)
    store = AsyncPostgresStore(engine)
    ids = [(await store.start(orders, key, New(1))).id for key in range(200)]
    waiters = [asyncio.create_task(store.wait(orders, key, 60)) for key in range(200)]
    await all_wait(store, database_url, *ids)

    for key in range(200):
        await store.advance(orders, key, Drop())

    assert [now.key for now in await asyncio.gather(*waiters)] == [str(key) for key in range(200)]
    await engine.dispose()


async def test_a_task_that_is_cancelled_waits_no_more(database_url: str) -> None:
    engine = create_async_engine(database_url)
    store = AsyncPostgresStore(engine)
    found = (await store.start(orders, 7, New(1))).id
    first, second = (asyncio.create_task(store.wait(orders, 7, 60)) for _ in range(2))
    await all_wait(store, database_url, found)
    (listener,) = store._listeners.values()
    both = partial(eventually, lambda: len(listener._waiters._of.get(found, ())) == 2, what="both wait")
    await asyncio.to_thread(both)

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await store.advance(orders, 7, Drop())

    assert (await second).seq == 1
    await engine.dispose()


@pytest.mark.parametrize("somebody", [True, False])
def test_who_ends_a_machine_notifies_only_if_somebody_waits(world: PostgresWorld, somebody: bool) -> None:
    world.store.start(orders, 7, New(1))
    with psycopg.connect(world.url, autocommit=True) as connection:
        connection.execute(f"LISTEN {ended_channel('fsm')}")
        waiter = begun(world, orders, 7) if somebody else None
        list(connection.notifies(timeout=0))
        world.store.advance(orders, 7, Drop())
        world.sql("SELECT pg_notify(%s, 'last')", ended_channel("fsm"))
        told = [note.payload for note in connection.notifies(timeout=10, stop_after=1 + somebody)]

    assert len(told) == 1 + somebody
    assert told[-1] == "last"
    assert waiter is None or waiter.result(10).seq == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_that_waits_has_a_listener_of_its_own(engine: Engine) -> None:
    """The parent's thread is not there, and its connection is not touched."""
    store = PostgresStore(engine)
    store.start(orders, 7, New(1))
    world = PostgresWorld(store, plain(engine.url.render_as_string(hide_password=False)))
    waiter = begun(world, orders, 7)

    child = os.fork()
    if child == 0:
        try:
            engine.dispose(close=False)
            os._exit(0 if store.wait(orders, 7, 30).seq == 1 else 1)
        finally:
            os._exit(2)
    eventually(lambda: listeners(world) >= 2, what="the child listens")
    store.advance(orders, 7, Drop())

    assert waiter.result(10).seq == 1
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_database_that_stays_away_is_told(
    world: PostgresWorld, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After as long as there is patience. The connection is made as the engine makes its own."""
    monkeypatch.setattr(waiting, "PATIENCE", 0.2)
    made: list[object] = []

    def creator() -> psycopg.Connection[Any]:
        if made:
            raise psycopg.OperationalError("connection refused")
        made.append(1)
        return psycopg.connect(world.url)

    engine = create_engine("postgresql+psycopg://", creator=creator, pool_size=1)
    store = PostgresStore(engine)
    store.start(orders, 7, New(1))

    with pytest.raises(DatabaseUnavailable, match=r"wait.*connection refused"):
        store.wait(orders, 7, 30)
    engine.dispose()


def test_ctrl_c_ends_a_wait(engine: Engine) -> None:
    """Also one without a timeout."""
    store = PostgresStore(engine)
    found = store.start(orders, 7, New(1)).id
    world = PostgresWorld(store, plain(engine.url.render_as_string(hide_password=False)))

    def interrupt() -> None:
        try:
            eventually(lambda: waits_for(world, found), what="it waits")
        finally:  # or the test would wait for ever
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            store.wait(orders, 7)
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
