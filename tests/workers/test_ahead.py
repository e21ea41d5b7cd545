"""Run-ahead: the worker that has taken a result goes on with the action it caused, without a hop over relay and broker."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from fsm_core import Attempt, Effects, Failed, Machine, Retry, Route, To
from fsm_core.audit import fsck
from fsm_core.delivery.ahead import MOST_IN_A_ROW, Ahead
from fsm_core.delivery.ports import Claimed, Cursor
from fsm_core.errors import DatabaseUnavailable
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.registry import Registry
from fsm_core.types import ActionId, ActionStatus
from tests.waiting import eventually
from workers.runtime import Runtime
from workers.settings import Settings


@dataclass(frozen=True)
class Counting:
    left: int


@dataclass(frozen=True)
class Go:
    pass


@dataclass(frozen=True)
class Done:
    pass


@dataclass(frozen=True)
class Work:
    left: int


chain = Machine("chain", states=Counting, events=Go | Done, actions=Work)
usual = Machine("usual", states=Counting, events=Go | Done, actions=Work)
elsewhere = Machine("elsewhere", states=Counting, events=Go | Done, actions=Work)
ordered = Machine("ordered", states=Counting, events=Go | Done, actions=Work)
ran: list[tuple[str, int]] = []


def go(state: Counting, _event: Go) -> To[Counting, Work]:
    return state, [Work(state.left)]


def done(state: Counting, _event: Done) -> To[Counting, Work]:
    left = Counting(state.left - 1)
    return left, ([Work(left.left)] if left.left else [])


@elsewhere.route
def away(action: Work) -> Route:
    return Route(queue="default" if action.left == 3 else "other")


@ordered.route
def in_order(action: Work) -> Route:
    return Route(ordered=True)


EFFECTS = []
for machine, inline in ((chain, True), (usual, False), (elsewhere, True), (ordered, True)):
    machine.on(go)
    machine.on(done)
    effects = Effects(machine)

    @effects.act(inline=inline)
    def work(action: Work, attempt: Attempt[None]) -> Done:
        ran.append((attempt.key, attempt.number))
        return Done()

    EFFECTS.append(effects)


@pytest.fixture
def runtime(database_url: str) -> Iterator[Runtime]:
    ran.clear()
    settings = Settings(database_url, lease=timedelta(seconds=30))
    made = Runtime(settings, Registry(EFFECTS), kind="node", queues={"default": 2}, slots=2)
    yield made
    made.close()


def started(engine: Engine, machine: Machine[Counting, Go | Done, Work], left: int) -> PostgresStore:
    store = PostgresStore(engine, machines=[machine])
    store.start(machine, "a", Counting(left))
    store.advance(machine, "a", Go())
    return store


def once(engine: Engine, runtime: Runtime) -> None:
    """One message, as a relay would send it; there is no other."""
    outbox, ticket = PostgresOutbox(engine), uuid4()
    outbox.admit(Cursor())
    ids = [row.id for row in outbox.publish("default", 10, ticket)]
    assert ids
    runtime.handle(ticket, ids, "default")
    assert runtime._finisher.flush(10)


def open_rows(engine: Engine) -> list[tuple[int, str]]:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT seq, status FROM fsm.actions WHERE status <> 'completed' ORDER BY seq")
        )
        return [(row[0], row[1]) for row in rows]


def test_one_message_takes_a_machine_through_all_it_causes(engine: Engine, runtime: Runtime) -> None:
    store = started(engine, chain, 4)

    once(engine, runtime)

    assert store.get(chain, "a").state == Counting(0)
    assert ran == [("a", 1)] * 4
    actions = store.actions(limit=10)
    assert {(action.status, action.attempt) for action in actions} == {(ActionStatus.COMPLETED, 1)}
    assert [each.number for action in actions for each in action.attempts] == [1, 1, 1, 1]
    (log,) = store.logs()
    assert not fsck(log, store.registry).findings


def test_what_does_not_say_so_takes_the_usual_way(engine: Engine, runtime: Runtime) -> None:
    started(engine, usual, 4)

    once(engine, runtime)

    assert open_rows(engine) == [(2, "pending")]


def test_another_queue_takes_the_usual_way(engine: Engine, runtime: Runtime) -> None:
    started(engine, elsewhere, 3)

    once(engine, runtime)

    assert open_rows(engine) == [(2, "pending")]


def test_what_has_to_be_admitted_takes_the_usual_way(engine: Engine, runtime: Runtime) -> None:
    started(engine, ordered, 3)

    once(engine, runtime)

    assert open_rows(engine) == [(2, "blocked")]


def test_after_ten_in_a_row_the_machine_queues_up_again(engine: Engine, runtime: Runtime) -> None:
    started(engine, chain, 30)

    once(engine, runtime)

    assert len(ran) == 1 + MOST_IN_A_ROW
    assert open_rows(engine) == [(2 + MOST_IN_A_ROW, "pending")]


def test_a_worker_that_drains_starts_nothing_more(engine: Engine, runtime: Runtime) -> None:
    """A deploy does not wait for a chain: the rest is pending, for whoever comes."""
    store = started(engine, chain, 4)
    outbox, ticket = PostgresOutbox(engine), uuid4()
    ids = [row.id for row in outbox.publish("default", 10, ticket)]
    (claimed,) = runtime._claim(ticket, ids)
    runtime.drain()
    runtime._run([claimed], runtime._slots.more(1))
    assert runtime._finisher.flush(10)

    assert store.get(chain, "a").state == Counting(3)
    assert open_rows(engine) == [(2, "pending")]


def test_a_machine_that_is_locked_keeps_no_slot_waiting(
    engine: Engine, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result waits for the lock, its slot does not; what it causes then takes the usual way."""
    monkeypatch.setattr("workers.runtime.AHEAD_PATIENCE", 0.05)
    store = started(engine, chain, 2)
    outbox, ticket = PostgresOutbox(engine), uuid4()
    ids = [row.id for row in outbox.publish("default", 10, ticket)]
    with engine.connect() as blocker:
        blocker.execute(text("SELECT 1 FROM fsm.machines FOR UPDATE"))
        runtime.handle(ticket, ids, "default")
        assert store.get(chain, "a").state == Counting(2)
    assert runtime._finisher.flush(10)

    assert store.get(chain, "a").state == Counting(1)
    assert open_rows(engine) == [(2, "pending")]


def test_a_claim_ahead_that_was_never_answered_goes_back(engine: Engine, runtime: Runtime) -> None:
    """The commit's answer was lost: the row runs under our claim, and nobody here runs it. The census hands it back."""
    store = started(engine, chain, 3)
    write = PostgresOutbox.write

    def lost(self: PostgresOutbox, units: object) -> set[int]:
        write(self, units)  # type: ignore[arg-type]
        runtime._store.write = write.__get__(runtime._store)  # type: ignore[method-assign]
        raise DatabaseUnavailable("the answer was lost")

    runtime._store.write = lost.__get__(runtime._store)  # type: ignore[method-assign]
    once(engine, runtime)
    assert open_rows(engine) == [(2, "running")]
    assert ran == [("a", 1)]

    runtime._census(PostgresOutbox(engine), runtime._lease.id)

    assert open_rows(engine) == [(2, "pending")]
    once(engine, runtime)
    assert store.get(chain, "a").state == Counting(0)


def test_a_slot_that_has_gone_is_not_asked_and_one_that_was_asked_waits_for_the_answer() -> None:
    held: list[UUID] = []
    gone, asked = (Ahead(_claimed(), uuid4(), uuid4(), hold=held.append, drop=held.remove) for _ in range(2))

    assert gone.wait(0) is None
    assert not gone.reserve()
    gone.settle(_claimed())

    assert asked.reserve()
    assert held == [asked.claim.token]
    answers: list[Claimed | None] = []
    waiter = threading.Thread(target=lambda: answers.append(asked.wait(0)))
    waiter.start()
    following = _claimed()
    asked.settle(following)
    waiter.join(10)
    asked.settle(None)

    assert answers == [following]
    assert held == [asked.claim.token]


def test_a_claim_that_came_to_nothing_is_let_go_of() -> None:
    held: list[UUID] = []
    ahead = Ahead(_claimed(), uuid4(), uuid4(), hold=held.append, drop=held.remove)

    assert ahead.reserve()
    ahead.settle(None)

    assert held == []
    assert ahead.wait(0) is None


def _claimed() -> Claimed:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Claimed(
        ActionId(uuid4(), 1, 0), uuid4(), "chain", "a", 1, "Work", "{}", True, "default", 1, 0, 0, False, None, now, now, now
    )  # fmt: skip


def test_nothing_is_left_held_when_a_chain_has_ended(engine: Engine, runtime: Runtime) -> None:
    started(engine, chain, 5)

    once(engine, runtime)

    eventually(lambda: not runtime._claims, what="every claim is let go of")
    assert not runtime._aheads


hopeless = Machine("hopeless", states=Counting, events=Go | Done | Failed[Work], actions=Work)
hopeless.on(go)
freed = threading.Event()


@hopeless.on
def failed(state: Counting, _event: Failed[Work]) -> To[Counting, Work]:
    return state, [Work(0)]


hopeless_effects = Effects(hopeless)


@hopeless_effects.act(inline=True, retry=Retry(max_attempts=1), timeout=0.1)
def hang(_action: Work) -> None:
    freed.wait(60)


@pytest.fixture
def hopeless_runtime(database_url: str) -> Iterator[Runtime]:
    freed.clear()
    settings = Settings(database_url, lease=timedelta(seconds=30))
    made = Runtime(settings, Registry([hopeless_effects]), kind="node", queues={"default": 4}, slots=4)
    yield made
    freed.set()
    made.close()


def test_what_the_failure_of_a_hanging_effect_causes_is_not_left_to_its_slot(
    engine: Engine, hopeless_runtime: Runtime
) -> None:
    """That slot would start it when the thread comes back, if ever: another one takes it the usual way."""
    store = started(engine, hopeless, 1)
    outbox, ticket = PostgresOutbox(engine), uuid4()
    ids = [row.id for row in outbox.publish("default", 10, ticket)]
    threading.Thread(target=hopeless_runtime.handle, args=(ticket, ids, "default"), daemon=True).start()

    eventually(lambda: store.get(hopeless, "a").seq == 2, what="the machine is told of the failure")

    assert open_rows(engine) == [(1, "failed"), (2, "pending")]
