"""The store in memory when effects fail: attempts, doubt, probes, timeouts, late results, bugs."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from fsm_core import Attempt, Effects, Machine, NotDone, Permanent, Retry
from fsm_core.memory import Drained, MemoryStore
from tests.core.errands import (
    START,
    Close,
    Desk,
    Done,
    Errand,
    Send,
    Shut,
    build,
    desk,
    done,
    errands,
    opened,
    outcomes,
    send,
    state,
)  # fmt: skip


class Crash(BaseException):
    """The worker dies."""


def test_a_failed_attempt_is_tried_again_when_its_policy_says() -> None:
    """Not before the clock gets there; three attempts, then the machine is told."""

    def fail(action: Any, attempt: Attempt[None], store: MemoryStore) -> None:
        raise OSError(f"no {attempt.number}")

    store = opened(fail)
    send(store, "tea")

    assert store.drain() == Drained(ran=1, retried=1)
    (row,) = store.actions(action="Errand")
    assert (row.status, row.run_at, row.error) == ("pending", START + timedelta(seconds=60), "OSError: no 1")
    assert store.drain().ran == 0
    store.clock.advance(60)
    assert store.drain().retried == 1
    store.clock.advance(timedelta(minutes=1))
    assert store.drain() == Drained(ran=1, failed=1)

    assert state(store) == Desk(failed=("tea: OSError: no 3 (3)",))
    assert outcomes(store) == [["error", "error", "failed"]]


def test_permanent_is_not_tried_again() -> None:
    def refuse(action: Any, attempt: Any, store: MemoryStore) -> None:
        raise Permanent("sold out")

    store = opened(refuse)
    send(store, "tea")

    assert store.drain(jump=True) == Drained(ran=1, failed=1)
    assert state(store) == Desk(failed=("tea: sold out (1)",))
    assert store.clock.now() == START


def test_the_death_of_a_worker_leaves_the_outcome_in_doubt_and_the_probe_is_asked() -> None:
    """The effect happened before it died: the probe says so, and it is not run again."""
    happened: list[str] = []

    def dies(action: Any, attempt: Any, store: MemoryStore) -> None:
        if isinstance(action, Errand):
            happened.append(action.name)
            raise Crash

    store = opened(dies, probe=lambda action, attempt: Done(action.name) if happened else NotDone())
    send(store, "tea", "milk")
    with pytest.raises(Crash):
        store.drain()
    assert errands(store) == [("tea", "running", 1, None), ("milk", "pending", 0, None)]
    with pytest.raises(Crash):
        store.drain(jump=True)  # milk is due before tea

    assert store.drain(jump=True) == Drained(ran=4, completed=4)
    assert happened == ["tea", "milk"]
    assert state(store) == Desk(("tea", "milk"))
    assert outcomes(store) == [["lost", "completed"], ["lost", "completed"]]


def test_without_a_probe_a_lost_attempt_is_run_again_within_its_budget() -> None:
    """An effect that kills every worker is not started more often than its policy allows."""

    def dies(action: Any, attempt: Any, store: MemoryStore) -> None:
        raise Crash

    store = opened(dies)
    send(store, "tea")
    for _ in range(3):
        with pytest.raises(Crash):
            store.drain(jump=True)

    assert store.drain(jump=True) == Drained(ran=1, failed=1)
    assert state(store) == Desk(failed=("tea: all 3 attempts were lost with their workers (3)",))
    assert outcomes(store) == [["lost"] * 3]


def test_a_probe_that_raises_is_asked_again_and_notdone_runs_the_effect() -> None:
    answers: list[Any] = [OSError("cannot tell"), NotDone()]
    runs: list[int] = []

    def times_out_once(action: Any, attempt: Attempt[None] | None, store: MemoryStore) -> Done | None:
        if attempt is not None:
            runs.append(attempt.number)
            if attempt.number == 1:
                store.clock.advance(31)
        return done(action, attempt, store)

    def ask(action: Errand, attempt: Attempt[None]) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    store = opened(times_out_once, probe=ask, timeout=30)
    send(store, "tea")

    assert store.drain(jump=True) == Drained(ran=4, completed=2, retried=2, late=1)
    assert (runs, answers) == ([1, 3], [])
    assert outcomes(store) == [["timed_out", "error", "completed"]]
    (late,) = [row.late for row in store._tables.attempts[store.actions()[0].id].values() if row.late]
    assert '"Done"' in late


@pytest.mark.parametrize("by", ["action", "machine"])
def test_a_result_that_comes_after_a_cancel_is_recorded_and_not_applied(by: str) -> None:
    def overtaken(action: Any, attempt: Attempt[None], store: MemoryStore) -> Done:
        if by == "action":
            store.cancel_action(attempt.id, "not wanted any more")
        else:
            store.cancel(desk, 1, "not wanted any more")
        return Done(action.name)

    store = opened(overtaken)
    send(store, "tea")

    assert store.drain() == Drained(ran=1, late=1)

    assert errands(store) == [("tea", "cancelled", 1, "not wanted any more")]
    assert outcomes(store) == [["ignored"]]
    assert [e.name for e in store.history(desk, 1)] == ["Desk", "Send"]


def test_a_result_that_the_machine_does_not_want_completes_its_action_with_a_note() -> None:
    """Rejected, or without an edge because the machine has ended: recorded as ignored, never raised."""
    store = opened(
        lambda a, t, s: [s.advance(desk, 1, Close()), Done("x")][1] if a.name == "last" else Done(a.name)
    )
    send(store, "unwanted", "last")

    assert store.drain() == Drained(ran=2, completed=2)

    assert [row[3] for row in errands(store)] == [
        "ignored: Rejected: we did not want that",
        "ignored: UnhandledEvent: machine 'desk' has no edge for Done in state Shut",
    ]
    assert state(store) == Shut()


def test_a_bug_in_the_transition_keeps_the_result_for_the_fixed_code() -> None:
    """The effect is not run again: `retry` on the mended machine applies what it gave."""
    runs: list[str] = []

    def effects_of(machine: Machine[Any, Any, Any]) -> Effects[None]:
        effects = Effects(machine)

        @effects.act
        def errand(action: Errand) -> Done:
            runs.append(action.name)
            return Done(action.name)

        return effects

    broken = build(bug=True)
    store = MemoryStore(effects_of(broken))
    store.start(broken, 1)
    store.advance(broken, 1, Send("tea"))

    drained = store.drain()
    assert (drained.failed, [str(bug) for bug in drained.bugs]) == (1, ["a bug"])
    (row,) = store.actions(status="failed")
    assert row.error == "its result could not be applied: ZeroDivisionError: a bug"

    mended = store.reopen(effects_of(desk))
    mended.retry([row.id])
    assert mended.drain(jump=True).completed == 1
    assert mended.get(desk, 1).state == Desk(("tea",))
    assert runs == ["tea"]


def test_an_async_effect_is_ended_by_its_timeout_in_real_seconds_too() -> None:
    effects = Effects(desk)

    @effects.act(timeout=0.05, retry=Retry(max_attempts=1))
    async def errand(action: Errand) -> None:
        await asyncio.sleep(60)

    store = MemoryStore(effects)
    store.start(desk, 1)
    store.advance(desk, 1, Send("tea"))

    assert store.drain().failed == 1
    assert store.get(desk, 1).state == Desk(failed=("tea: TimeoutError: no answer within 0.05 s (1)",))
