"""The store in memory: `drain` runs effects as a worker does, on a clock that stands still. Its verbs: the conformance suite."""

import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from fsm_core import After, Attempt, Effects, Machine, To
from fsm_core.errors import UnsupportedConnection
from fsm_core.memory import AsyncMemoryStore, Clock, Drained, MemoryStore
from tests.core.errands import (
    START,
    Close,
    Desk,
    Done,
    Enter,
    Errand,
    Opened,
    Ring,
    Send,
    Shut,
    Tell,
    Unlock,
    Unlocked,
    desk,
    done,
    errands,
    gate,
    opened,
    send,
    state,
)  # fmt: skip


class Crash(BaseException):
    """The worker dies."""


def test_drain_runs_what_is_due_and_what_that_causes() -> None:
    """The effect's event goes through the machine in one unit with its action's end; the untracked action follows."""
    store = opened(done)
    send(store, "tea", "milk")

    assert store.drain() == Drained(ran=4, completed=4)

    assert state(store) == Desk(("tea", "milk"))
    assert [(e.name, e.source) for e in store.history(desk, 1)][3:] == [("Done", "result")] * 2
    assert {a.status for a in store.actions()} == {"completed"}
    assert store.drain() == Drained()


def test_drain_takes_no_more_than_its_limit_the_most_urgent_first() -> None:
    """What is left is as it was."""
    store = opened(done)
    send(store, "slow", priority=9)
    send(store, "quick", priority=0)

    assert store.drain(limit=1).ran == 1

    assert errands(store) == [("slow", "pending", 0, None), ("quick", "completed", 1, None)]


def test_drain_jumps_to_due_times_when_asked() -> None:
    """A life of retries in no time; the attempts stand at their own times."""

    def third(action: Any, attempt: Attempt[None] | None, store: MemoryStore) -> Done | None:
        if attempt is not None and attempt.number < 3:
            raise OSError("not yet")
        return done(action, attempt, store)

    store = opened(third)
    send(store, "tea")

    assert store.drain(jump=True) == Drained(ran=4, completed=2, retried=2)

    assert state(store) == Desk(("tea",))
    assert store.clock.now() == START + timedelta(minutes=2)
    assert [
        (a.number, a.started_at - START) for a in store.actions(action="Errand")[0].attempts
    ] == [(n + 1, timedelta(minutes=n)) for n in range(3)]  # fmt: skip


def test_an_untracked_action_is_run_at_most_once(caplog: pytest.LogCaptureFixture) -> None:
    """Failed or crashed, it is not run again; the machine is told nothing."""
    told: list[object] = []

    def tell_badly(action: Any, attempt: Any, store: MemoryStore) -> Done | None:
        if isinstance(action, Errand):
            return Done(action.name)
        told.append(action)
        raise OSError("nobody listens") if len(told) == 1 else Crash

    store = opened(tell_badly)
    send(store, "tea")
    assert store.drain(jump=True) == Drained(ran=2, completed=1, failed=1)
    assert "nobody listens" in caplog.text
    send(store, "milk")
    with pytest.raises(Crash):
        store.drain()

    assert store.drain(jump=True).ran == 0
    assert told == [Tell("tea"), Tell("milk")]
    assert [a.status for a in store.actions(action="Tell")] == ["completed", "completed"]


def test_a_lane_runs_one_after_another_a_waiting_retry_included() -> None:
    """The other lane does not wait."""
    ran: list[str] = []

    def first_fails_once(action: Any, attempt: Attempt[None] | None, store: MemoryStore) -> Done | None:
        if attempt is not None:
            ran.append(action.name)
            if action.name == "a1" and attempt.number == 1:
                raise OSError("again")
        return done(action, attempt, store)

    store = opened(first_fails_once)
    send(store, "a1", "a2", "a3", lane="a")
    send(store, "b1", lane="b")

    store.drain()
    assert ran == ["a1", "b1"]
    assert [row[:2] for row in errands(store)][1:3] == [("a2", "blocked"), ("a3", "blocked")]
    store.drain(jump=True)
    assert ran == ["a1", "b1", "a1", "a2", "a3"]


def test_a_result_wakes_the_held_events() -> None:
    """The inbox is offered in the same unit."""
    effects = Effects(gate)

    @effects.act
    def unlock(action: Unlock) -> Unlocked:
        return Unlocked()

    store = MemoryStore(effects)
    store.start(gate, 1)
    assert store.advance(gate, 1, Enter("ann")).held
    store.advance(gate, 1, Ring())

    assert store.drain().completed == 1
    assert store.get(gate, 1).state == Opened(("ann",))


def test_what_no_effect_here_runs_is_put_back_or_not_touched() -> None:
    """A store with other effects says so on the row; one without any serves nobody."""
    store = MemoryStore()
    store.start(desk, 1)
    store.advance(desk, 1, Send("tea"))
    assert store.drain(jump=True) == Drained()
    (before,) = store.actions()

    assert store.reopen(Effects(desk)).drain(jump=True) == Drained(ran=1, released=1)
    (after,) = store.actions()
    assert (before.note, after.note) == (None, "no effect here runs Errand")
    assert (after.status, after.attempt) == ("pending", 0)


@dataclass
class Shop:
    open: bool = False
    sold: int = 0


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_resources_are_entered_once_and_left_when_the_drain_ends(kind: str) -> None:
    """Sync or async, with sync and async effects on one loop."""
    shop = Shop()

    @contextmanager
    def entered() -> Iterator[Shop]:
        assert not shop.open
        shop.open = True
        yield shop
        shop.open = False

    @asynccontextmanager
    async def entered_async() -> AsyncIterator[Shop]:
        with entered() as given:
            yield given

    effects: Effects[Shop] = Effects(desk, resources=entered if kind == "sync" else entered_async)

    @effects.act(timeout=timedelta(seconds=5))
    async def errand(action: Errand, attempt: Attempt[Shop]) -> Done:
        assert attempt.resources.open
        attempt.resources.sold += 1
        return Done(action.name)

    store = MemoryStore(effects)
    store.start(desk, 1)
    store.advance(desk, 1, Send("tea"))
    store.advance(desk, 1, Send("milk"))

    store.drain(limit=2)

    assert (shop.sold, shop.open) == (2, False)
    assert store.get(desk, 1).state == Desk(("tea", "milk"))


async def test_an_async_application_drains_on_its_own_store() -> None:
    """`AsyncMemoryStore` is on the same rows; the blocking drain says which one to take."""
    store = opened(done)
    async_store = AsyncMemoryStore(store)
    await async_store.advance(desk, 1, Send("tea"))

    with pytest.raises(RuntimeError, match="await AsyncMemoryStore"):
        store.drain()
    assert (await async_store.drain()).completed == 2
    assert (await async_store.get(desk, 1)).state == state(store) == Desk(("tea",))


def test_several_threads_drain_one_store() -> None:
    """Every errand is run once, whoever takes it, and no result is lost."""
    ran: list[str] = []
    together = threading.Barrier(4)

    def run(action: Any, attempt: Any, store: MemoryStore) -> Done | None:
        if isinstance(action, Errand):
            ran.append(action.name)
        return done(action, attempt, store)

    store = opened(run)
    names = [str(n) for n in range(200)]
    send(store, *names)

    def drain(_: int) -> Drained:
        together.wait()
        return store.drain()

    with ThreadPoolExecutor(4) as pool:
        drained = list(pool.map(drain, range(4)))

    assert sorted(ran) == sorted(names)
    assert sum(d.completed for d in drained) == 400
    assert sorted(state(store).done) == sorted(names)  # type: ignore[union-attr]


def test_a_run_repeats_down_to_its_ids_and_times() -> None:
    """Ids are derived and the clock stands still: two runs tell one story."""
    stories = []
    for _ in range(2):
        store = opened(done)
        send(store, "tea", "milk")
        store.drain()
        stories.append((store.get(desk, 1), store.history(desk, 1)))

    assert stories[0] == stories[1]


def test_rows_are_json_and_nobody_holds_their_insides() -> None:
    """What a caller changes in an answer is not changed in the store."""
    store = opened(done)
    send(store, "tea")
    store.history(desk, 1)[1].payload["name"] = "poison"
    store.record(desk, 1).state["done"] = "poison"

    store.drain()
    assert state(store) == Desk(("tea",))


def test_a_session_is_refused_by_name() -> None:
    """There is no transaction to join."""
    store = opened(done)
    for call in (
        lambda: store.start(desk, 2, session=object()),
        lambda: store.advance(desk, 1, Close(), session=object()),
    ):
        with pytest.raises(UnsupportedConnection, match="takes no session"):
            call()
    assert store.advance(desk, 1, Close(), session=None).state == Shut()
    assert [m.key for m in store.machines()] == ["1"]


def test_a_clock_goes_on_and_never_back() -> None:
    clock = Clock(START)
    assert clock.advance(1.5) == clock.now() == START + timedelta(seconds=1.5)
    clock.reach(START)
    assert clock.now() == START + timedelta(seconds=1.5)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
    with pytest.raises(ValueError, match="aware"):
        Clock(datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point


@dataclass(frozen=True)
class Steeping:
    pass


@dataclass(frozen=True)
class Ready:
    reminded: int = 0


@dataclass(frozen=True)
class Cold:
    pass


@dataclass(frozen=True)
class Remind:
    pass


def test_timers_come_due_on_the_clock_and_need_no_effect() -> None:
    """A state's timeout and a reminder; the one that is overtaken ends with its state."""
    tea = Machine("tea", states=Steeping | Ready | Cold, events=Remind, initial=Steeping(), final=Cold)

    @tea.timeout(after=timedelta(minutes=3))
    def steeped(state: Steeping) -> To[Ready, After[Remind]]:
        return Ready(), [After(60, Remind()), After(timedelta(days=1), Remind())]

    @tea.on
    def remind(state: Ready, event: Remind) -> Ready:
        return Ready(state.reminded + 1)

    @tea.timeout(after=600)
    def cools(state: Ready) -> Cold:
        return Cold()

    store = MemoryStore(tea, clock=Clock(START))
    store.start(tea, 1)
    assert store.drain() == Drained()
    store.clock.advance(180)
    assert store.drain() == Drained(ran=1, completed=1)
    assert store.get(tea, 1).state == Ready()

    assert store.drain(jump=True) == Drained(ran=2, completed=2)

    log = [(e.name, e.source, (e.occurred_at - START).total_seconds()) for e in store.history(tea, 1)[1:]]
    assert log == [("Timeout", "timer", 180), ("Remind", "timer", 240), ("Timeout", "timer", 780)]
    assert [a.status.value for a in store.actions()] == ["completed", "completed", "cancelled", "completed"]
