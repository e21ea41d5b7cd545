"""What a process tells of the ids that it could not claim."""

import logging
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.registry import Registry
from fsm_core.types import ActionId
from tests.workers.jobs import Do, effects, jobs
from workers.runtime import Runtime
from workers.settings import Settings
from workers.unclaimed import Unclaimed


def told(caplog: pytest.LogCaptureFixture) -> list[object]:
    """The numbers in its lines: how many are new, how many there were."""
    return [record.args for record in caplog.records if record.name == "workers.unclaimed"]


def test_a_line_a_minute_tells_all_and_the_end_tells_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    unclaimed = Unclaimed()
    with caplog.at_level(logging.INFO):
        unclaimed.tell()
        unclaimed.add(1)
        unclaimed.tell()
        unclaimed.add(2)
        unclaimed.tell()
        unclaimed.tell(last=True)
        unclaimed.tell(last=True)

    assert told(caplog) == [(1, 1), (2, 3)]


def test_of_a_message_those_ids_are_counted_that_could_not_be_claimed(
    engine: Engine,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("JOBS_FILE", str(tmp_path / "notes"))
    store, ticket = PostgresStore(engine), uuid4()
    store.start(jobs, "a")
    store.advance(jobs, "a", Do(("one", "two")))
    ids = [row.id for row in PostgresOutbox(engine).publish("default", 10, ticket)]
    settings = Settings(database_url, lease=timedelta(seconds=30))

    runtime = Runtime(settings, Registry([effects]), kind="node", queues={"default": 5}, slots=5)
    with caplog.at_level(logging.INFO):
        runtime.handle(ticket, [*ids, *(ActionId(UUID(int=n), 1, 0) for n in range(3))])
        runtime.close()

    assert told(caplog) == [(3, 3)]
