"""The last fault: with work in flight, every worker and relay is killed and the broker wiped, all at once.

What recovery is measured from: without it, everything may have ended long before the last fault of the schedule was over.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import create_engine

from chaos.machines import ALL, Do, job
from chaos.truth import JOURNALS, append
from fsm_core.postgres import PostgresStore

if TYPE_CHECKING:
    from chaos.faults import World

NAME = "blow"
KINDS = ("slow", "work", "later", "lane", "limited")
MOST = 40
AIM = 10.0
RUNNING = "SELECT count(*) FROM fsm.actions WHERE status = 'running'"


def blow(world: World, url: str) -> None:
    """Bring events of the harness's own, wait until some of what they ask for is running, and kill."""
    _bring(world, url)
    deadline = time.monotonic() + AIM
    with world.postgres.connect(world.database) as connection:
        while time.monotonic() < deadline:
            world.processes.tend()
            if connection.execute(RUNNING.encode()).fetchall() != [(0,)]:
                break
    for child in world.processes.every("worker", "relay"):
        world.processes.kill(child)
    with world.valkey.client() as client:
        client.flushall()


def _bring(world: World, url: str) -> None:
    journal = world.folder / f"{JOURNALS}{NAME}"
    events = [
        (f"job-{n}", Do(f"{world.plan.seed}.{NAME}.{n}", KINDS[n % len(KINDS)]))
        for n in range(min(world.plan.machines, MOST))
    ]
    engine = create_engine(url)
    for key, event in events:
        append(journal, "try", event.id, key, "many", event.kind)
    answers = PostgresStore(engine, machines=ALL).advance_many(job, events)
    for (_, event), answer in zip(events, answers, strict=True):
        if isinstance(answer, Exception):
            append(journal, "bug", event.id, type(answer).__name__, " ".join(str(answer).split()))
        else:
            append(journal, "ok", event.id, answer.seq)
    engine.dispose()
