"""One process's runtime, in the test's own: claims are let go of once, and never stay without a result."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NoReturn
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from fsm_core import ActionStatus
from fsm_core.delivery.outcome import Completed, Result
from fsm_core.delivery.ports import Claimed
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

    assert runtime._slots.more(9) == 4
    runtime._slots.give(4)


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


def test_lanes_that_nobody_needed_give_their_slots_back(engine: Engine, make: Make) -> None:
    """Effects can be quicker than the threads that were to help: a slot that is lost with each of them makes a process slow for ever."""
    _, ticket, ids = published(engine, "one", "two", "three")
    runtime, late = make(Registry([effects])), threading.Event()
    for _ in range(4):
        runtime._pool.submit(late.wait)

    runtime.handle(ticket, ids)

    late.set()
    assert runtime._slots.more(9) == 4
    runtime._slots.give(4)


def test_what_waits_for_a_slot_goes_back_when_the_process_is_to_stop(engine: Engine, make: Make) -> None:
    """Nothing begins any more, and nobody waits for a slot that an effect may keep for long."""
    store, ticket, ids = published(engine, "one", "two")
    runtime = make(Registry([effects]))
    assert runtime._slots.take(4) == 4
    message = threading.Thread(target=runtime.handle, args=(ticket, ids), daemon=True)
    message.start()

    runtime.drain()

    message.join(30)
    assert not message.is_alive()
    assert [(a.status, a.attempt) for a in store.actions()] == [(ActionStatus.PENDING, 0)] * 2
    runtime._slots.give(4)


class Replaced:
    """A runtime whose process would end: what stood in the rows then."""

    def __init__(self, store: PostgresStore, patch: pytest.MonkeyPatch) -> None:
        self._store, self.ended = store, threading.Event()
        self.rows: list[tuple[ActionStatus, int, bool]] = []
        patch.setattr("workers.runtime.os._exit", self._end)

    def _end(self, _status: int) -> None:
        self.rows = [(a.status, a.attempt, a.note == "to be applied") for a in self._store.actions()]
        self.ended.set()


def test_a_process_that_is_replaced_finishes_what_it_has_claimed(
    engine: Engine, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is behind an effect that has just ended, and has not begun when somebody looks."""
    store, ticket, ids = published(engine, "one", "two")
    runtime, process = make(Registry([effects])), Replaced(store, monkeypatch)
    runtime._pace.average = 0.0001
    start, begun = runtime._start, []

    def between(claimed: Claimed) -> None:
        begun.append(claimed)
        if len(begun) == 2:
            runtime._replace()
            process.ended.wait(0.5)
        start(claimed)

    monkeypatch.setattr(runtime, "_start", between)
    runtime.handle(ticket, ids)

    assert process.ended.wait(30)
    assert process.rows == [(ActionStatus.COMPLETED, 1, False)] * 2


def test_what_a_process_that_is_replaced_cannot_commit_is_kept(
    engine: Engine, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine is locked: the effect has run, and somebody else applies what it gave."""
    monkeypatch.setattr("workers.finisher.PATIENCE_AT_END", 0.5)
    store, ticket, ids = published(engine, "one")
    runtime, process = make(Registry([effects])), Replaced(store, monkeypatch)
    with engine.connect() as blocker:
        blocker.execute(text("SELECT 1 FROM fsm.machines FOR UPDATE"))
        runtime.handle(ticket, ids)
        runtime._replace()
        assert process.ended.wait(30)

    assert process.rows == [(ActionStatus.PENDING, 1, True)]


def test_two_attempts_of_one_action_in_one_process_are_told_apart(
    engine: Engine, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first was given up and returns; the second hangs, and what was claimed behind it goes back all the same."""
    _, ticket, ids = published(engine, "one", "behind")
    runtime, given = make(Registry([effects])), list[Result]()
    first, behind = runtime._claim(ticket, ids)
    second = first._replace(token=uuid4())
    begun = {each.token: threading.Event() for each in (first, second)}
    go_on = {each.token: threading.Event() for each in (first, second)}

    def start(claimed: Claimed) -> None:
        begun[claimed.token].set()
        go_on[claimed.token].wait(30)

    monkeypatch.setattr(runtime, "_start", start)
    monkeypatch.setattr(runtime._finisher, "put", given.append)
    lanes = [
        threading.Thread(target=runtime._run_all, args=(deque(claimed), runtime._pace))
        for claimed in ([first], [second, behind])
    ]
    for lane, each in zip(lanes, (first, second), strict=True):
        lane.start()
        assert begun[each.token].wait(30)
    go_on[first.token].set()
    lanes[0].join(30)

    runtime._pass_on(second)

    assert [result.claimed for result in given] == [behind]
    go_on[second.token].set()
    lanes[1].join(30)


def test_what_is_only_applied_says_nothing_of_how_long_effects_last(engine: Engine, make: Make) -> None:
    """Else timers would have slow effects claimed ahead, fifty at a time."""
    _, ticket, ids = published(engine, "one")
    with engine.begin() as connection:
        connection.execute(text("""UPDATE fsm.actions SET outcome = '{"to": "completed", "events": []}'"""))
    runtime = make(Registry([effects]))

    runtime.handle(ticket, ids)

    assert runtime._pace.average == 1.0


def test_what_ends_while_the_census_looks_is_no_stray(
    engine: Engine, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Its row ran when it was looked at, and its claim was let go of before it was looked for: nobody is warned."""
    _, ticket, ids = published(engine, "one")
    runtime, seen = make(Registry([effects])), threading.Event()

    class Slow(PostgresOutbox):
        def running(self, worker: UUID) -> list[tuple[ActionId, UUID]]:
            rows = super().running(worker)
            seen.set()
            runtime._finisher.put(Result(claimed, Completed()))
            assert runtime._finisher.flush(30)
            return rows

    (claimed,) = runtime._claim(ticket, ids)
    with caplog.at_level(logging.WARNING):
        runtime._census(Slow(engine), runtime._lease.id)

    assert seen.is_set()
    assert not caplog.records
