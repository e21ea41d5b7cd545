"""Who waits for a machine to end, seen from outside."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID

from fsm_core.postgres.statements import WAITERS_CLASS, waiters_place
from tests.store.world import MemoryWorld, PostgresWorld, World
from tests.waiting import eventually


def waits_for(world: World, machine: UUID) -> bool:
    """Whether somebody waits for the machine, and would be woken."""
    if isinstance(world, MemoryWorld):
        return machine in world.origin.waiters.machines()
    assert isinstance(world, PostgresWorld)
    shared = """
        SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND classid = %s AND objid = %s
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    return bool(world.sql(shared, WAITERS_CLASS, waiters_place(machine))[0][0])


def in_background(world: World, machine: Any, key: Any) -> Future[Any]:
    """A call of `wait` in a thread of its own."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(world.store.wait, machine, key, 30)
    pool.shutdown(wait=False)
    return future


def waiting(world: World, machine: Any, key: Any) -> Future[Any]:
    """The same, when it has looked and found nothing yet."""
    found = world.store.get(machine, key).id
    future = in_background(world, machine, key)
    eventually(lambda: waits_for(world, found), what="somebody waits")
    return future


def listeners(world: PostgresWorld) -> int:
    """Connections that listen for ends."""
    asked = r"""
        SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
           AND query ~ '^\s*(LISTEN|SELECT (u.id FROM unnest|u.place FROM unnest|pg_advisory_unlock_shared|pg_backend_pid|pg_notify))'"""
    return int(world.sql(asked)[0][0])
