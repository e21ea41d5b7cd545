"""A runtime on a real database: effects that are cancelled, and what waits behind one that hangs."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from fsm_core import ActionStatus
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.registry import Registry
from fsm_core.types import ActionId
from tests.waiting import eventually
from tests.workers.hazards import Do, effects, gate, hazards
from tests.workers.jobs import notes
from workers.runtime import Runtime
from workers.settings import Settings

Make = Callable[[], Runtime]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOBS_FILE", str(tmp_path / "notes"))
    return tmp_path / "notes"


@pytest.fixture
def runtime(database_url: str, file: Path) -> Iterator[Runtime]:
    machines = ("tests.workers.hazards:effects",)
    settings = Settings(database_url, machines=machines, lease=timedelta(seconds=1.5))
    runtime = Runtime(settings, Registry([effects]), kind="node", queues={"default": 2}, slots=2)
    yield runtime
    gate("end").touch()
    runtime.close()


def published(engine: Engine, *plans: str) -> tuple[PostgresStore, UUID, list[ActionId]]:
    store, ticket = PostgresStore(engine), uuid4()
    store.start(hazards, "a")
    store.advance(hazards, "a", Do(plans))
    return store, ticket, [row.id for row in PostgresOutbox(engine).publish("default", 10, ticket)]


def begin(runtime: Runtime, ticket: UUID, ids: list[ActionId]) -> threading.Thread:
    thread = threading.Thread(target=runtime.handle, args=(ticket, ids), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["Hermit", "AloneAsync"])
def test_a_cancelled_effect_is_told_within_a_heartbeat(
    engine: Engine, file: Path, runtime: Runtime, kind: str
) -> None:
    """An isolated one is killed; what it would have given is void."""
    store, ticket, ids = published(engine, f"{kind} beat until end")
    message = begin(runtime, ticket, ids)
    eventually(lambda: "start beat until end 1" in notes(file), timeout=60, what="the effect runs")

    store.cancel_action(ids[0])

    message.join(timeout=60)
    assert not message.is_alive()
    assert runtime._finisher.flush(10)
    assert store.action(ids[0]).status is ActionStatus.CANCELLED
    assert "end beat until end 1" not in notes(file)


def test_an_effect_that_runs_is_not_told_to_stop(engine: Engine, file: Path, runtime: Runtime) -> None:
    """Its row says that it runs here: the census, repeated, leaves it alone."""
    store, ticket, ids = published(engine, "Hermit wait go")
    message = begin(runtime, ticket, ids)
    eventually(lambda: "start wait go 1" in notes(file), timeout=60, what="the effect runs")

    for _ in range(3):
        runtime._census(PostgresOutbox(engine), runtime._lease.id)
    gate("go").touch()

    message.join()
    assert runtime._finisher.flush(10)
    assert store.get(hazards, "a").state.done == ("wait go",)


def test_what_was_claimed_behind_an_effect_that_hangs_goes_back(
    engine: Engine, file: Path, runtime: Runtime
) -> None:
    """Where effects are quick some are claimed ahead; they have not been started, and others take them."""
    store, ticket, ids = published(engine, "Plain wait end", "Patient wait end", "Plain behind", "Plain too")
    runtime._pace.average = 0.0001

    begin(runtime, ticket, ids)

    def behind() -> bool:
        rows = {str(a.payload["plan"]): a for a in store.actions(action="Plain")}
        return all(
            (rows[plan].status, rows[plan].attempt) == (ActionStatus.PENDING, 0) for plan in ("behind", "too")
        )

    eventually(behind, timeout=60, what="both are handed back")
    assert "start behind 1" not in notes(file)
    assert "start too 1" not in notes(file)
    rows = {str(a.payload["plan"]): a for a in store.actions(action="Plain")}
    assert rows["behind"].note == "handed back: the effect before it hangs"


def test_what_is_behind_a_slow_effect_goes_to_slots_that_are_free(
    engine: Engine, file: Path, runtime: Runtime
) -> None:
    """All were taken for quick and begun in one slot; one of them is not."""
    store, ticket, ids = published(engine, "Patient wait end", "Plain behind", "Plain too")
    runtime._pace.average = 0.0001

    message = begin(runtime, ticket, ids)

    eventually(
        lambda: {"end behind 1", "end too 1"} <= set(notes(file)), timeout=60, what="its neighbours are done"
    )
    assert "end wait end 1" not in notes(file)
    gate("end").touch()
    message.join()
    assert runtime._finisher.flush(10)
    assert {a.status for a in store.actions()} == {ActionStatus.COMPLETED}
