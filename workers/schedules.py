"""Schedules that a process knows are there, and as its code has them: seen to when it starts."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fsm_core.cron import Cron, Reschedule
from fsm_core.errors import WrongSeq
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.engine import own_engine

if TYPE_CHECKING:
    from fsm_core.registry import Registry
    from workers.settings import Settings

log = logging.getLogger(__name__)


def see_to(settings: Settings, registry: Registry) -> None:
    """`ensure`, by a connection of its own. Raises StoreError."""
    engine = own_engine(settings.database_url, pool_size=1)
    try:
        machines = registry.machines()
        store = PostgresStore(engine, machines=machines, schema=settings.schema, cipher=settings.cipher)
        ensure(store, registry)
    finally:
        engine.dispose()


def ensure(store: PostgresStore, registry: Registry) -> None:
    """Start each schedule that is not there; `Reschedule` one that has another expression than the code. Any number of processes may.

    Raises StoreError.
    """
    for machine in registry.machines():
        while isinstance(machine, Cron):
            now = store.start(machine, machine.name, machine.scheduled(datetime.now(UTC)))
            if now.status != "live" or (now.state.cron, now.state.zone) == (machine.cron, machine.zone):
                break
            with suppress(WrongSeq):  # it ticked, or another process was first: look again
                store.advance(
                    machine, machine.name, Reschedule(machine.cron, machine.zone), expected_seq=now.seq
                )
                log.info("schedule %s: from now on %s (%s)", machine.name, machine.cron, machine.zone)
