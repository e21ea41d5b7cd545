"""A graceful end leaves nothing behind that somebody has to wait for."""

import os
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from fsm_core import ActionStatus
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.registry import Registry
from tests.workers.jobs import Do, effects, jobs, notes
from workers.runtime import Runtime
from workers.settings import Settings


@pytest.mark.parametrize("draining", [False, True])
def test_a_draining_worker_hands_back_what_it_has_not_claimed(
    engine: Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draining: bool
) -> None:
    """Of a message that it had already, nothing starts any more: the rows are due again, without an attempt."""
    monkeypatch.setitem(os.environ, "JOBS_FILE", str(tmp_path / "notes"))
    store, outbox, ticket = PostgresStore(engine), PostgresOutbox(engine), uuid4()
    store.start(jobs, "a")
    store.advance(jobs, "a", Do(("one", "two", "three")))
    ids = [row.id for row in outbox.publish("default", 10, ticket)]
    runtime = Runtime(
        Settings(database_url), Registry([effects]), kind="node", queues={"default": 2}, slots=2
    )

    try:
        if draining:
            runtime.drain()
        runtime.handle(ticket, ids)
    finally:
        runtime.close()

    wanted = (ActionStatus.PENDING, 0) if draining else (ActionStatus.COMPLETED, 1)
    assert [(a.status, a.attempt) for a in store.actions()] == [wanted] * 3
    assert any(line.startswith("start") for line in notes(tmp_path / "notes")) is not draining
