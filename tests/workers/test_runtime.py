"""One process's runtime, in the test's own: claims are let go of once, and never stay without a result."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NoReturn
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from fsm_core import ActionStatus
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.registry import Registry
from fsm_core.types import ActionId
from tests.waiting import eventually
from tests.workers.jobs import Do, effects, jobs, notes
from workers.runtime import Runtime
from workers.settings import Settings

Make = Callable[[Registry], Runtime]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOBS_FILE", str(tmp_path / "notes"))
    return tmp_path / "notes"


@pytest.fixture
def make(database_url: str, file: Path) -> Iterator[Make]:
    made: list[Runtime] = []

    def runtime(registry: Registry) -> Runtime:
        settings = Settings(database_url, lease=timedelta(seconds=30))
        made.append(Runtime(settings, registry, kind="node", queues={"default": 4}, slots=4))
        return made[-1]

    yield runtime
    for each in made:
        each.close()


def published(engine: Engine, *plans: str) -> tuple[PostgresStore, UUID, list[ActionId]]:
    store, ticket = PostgresStore(engine), uuid4()
    store.start(jobs, "a")
    store.advance(jobs, "a", Do(plans))
    return store, ticket, publish(engine, ticket)


def publish(engine: Engine, ticket: UUID) -> list[ActionId]:
    return [row.id for row in PostgresOutbox(engine).publish("default", 10, ticket)]


def test_a_late_result_does_not_let_go_of_its_neighbours_claim(
    engine: Engine, file: Path, make: Make
) -> None:
    """Actions of one message share a claim: the timeout of one, and then its late result, count once."""
    store, ticket, ids = published(engine, "probed hang:late", "wait:go")
    runtime = make(Registry([effects]))
    message = threading.Thread(target=runtime.handle, args=(ticket, ids))
    message.start()
    eventually(lambda: "start wait:go 1" in notes(file), what="the neighbour runs")
    attempts = "SELECT count(*) FROM fsm.attempts WHERE outcome = 'timed_out'"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        eventually(lambda: connection.execute(text(attempts)).scalar() == 1, what="the timeout is recorded")
        Path(f"{file}.late").touch()
        late = "SELECT count(*) FROM fsm.attempts WHERE late IS NOT NULL"
        eventually(lambda: connection.execute(text(late)).scalar() == 1, what="the late result is recorded")
    eventually(lambda: runtime._finisher.flush(0), what="nothing is left to commit")

    runtime._census(PostgresOutbox(engine), runtime._lease.id)

    assert store.actions(action="Work")[0].status is ActionStatus.RUNNING
    Path(f"{file}.go").touch()
    message.join()
    runtime._finisher.flush(10)
    assert [a.outcome for a in store.actions(action="Work")[0].attempts] == ["completed"]


def test_an_action_that_cannot_even_be_read_goes_back(
    engine: Engine, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A payload class that raises what it likes: the claim does not stay without a result, its neighbours run."""

    def broken(*_: object) -> NoReturn:
        raise ZeroDivisionError("in a payload class")

    monkeypatch.setattr("fsm_core.delivery.attempt.decode_named", broken)
    store, ticket, ids = published(engine, "one", "two")
    runtime = make(Registry([effects]))

    runtime.handle(ticket, ids)

    assert runtime._finisher.flush(10)
    assert {(a.status, a.attempt) for a in store.actions()} == {(ActionStatus.PENDING, 0)}
    assert "ZeroDivisionError: in a payload class" in str(store.actions()[0].note)
    assert not runtime._claims


def test_a_kept_outcome_of_an_unknown_machine_goes_back(engine: Engine, make: Make) -> None:
    """Only a process that knows the machine can apply it; this one hands it on instead of trying for ever."""
    store, ticket, _ = published(engine, "one")
    with engine.begin() as connection:
        connection.execute(text("""UPDATE fsm.actions SET outcome = '{"to": "completed", "events": []}'"""))
    runtime = make(Registry())

    runtime.handle(ticket, [store.actions()[0].id])

    assert runtime._finisher.flush(5)
    (action,) = store.actions()
    assert (action.status, action.attempt) == (ActionStatus.PENDING, 0)
    assert "no worker here can apply it" in str(action.note)


def test_a_claim_that_breaks_gives_its_slots_back(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the claim raises: the process must not become deaf, slot by slot."""
    runtime = make(Registry([effects]))

    def broken(*_: object) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(runtime._store, "claim", broken)
    for _ in range(4):
        with pytest.raises(ZeroDivisionError):
            runtime.handle(uuid4(), [ActionId(uuid4(), 1, 0)])

    assert runtime._take(4) == 4
    runtime._give(4)


def test_a_known_outcome_that_nobody_here_can_read_goes_back(engine: Engine, make: Make) -> None:
    """It would be tried again and again in this process, and stay with it."""
    store, ticket, ids = published(engine, "ok")
    with engine.begin() as connection:
        connection.execute(text("""UPDATE fsm.actions SET outcome = '{"events": 7}'"""))
    runtime = make(Registry([effects]))

    runtime.handle(ticket, ids)

    assert runtime._finisher.flush(10)
    (action,) = store.actions()
    assert (action.status, action.attempt) == (ActionStatus.PENDING, 0)
    assert "a kept outcome does not fit" in str(action.note)
