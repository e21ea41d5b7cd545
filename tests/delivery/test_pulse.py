"""How long an attempt may go on: its timeout, its heartbeats, on a clock of the test's own, and in memory."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fsm_core import Attempt, Effects, Retry
from fsm_core.delivery.attempt import Overdue, Pulse, within
from fsm_core.effects import Effect
from fsm_core.errors import DefinitionError
from fsm_core.memory import MemoryStore
from tests.core.errands import Desk, Done, Errand, desk, done, opened, outcomes, send, state
from tests.core.worker import Go, Ring, make


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def pulse_of(now: Callable[[], float], *, timeout: float = 60, silence: float | None = 10) -> Pulse:
    limits = timedelta(seconds=timeout), None if silence is None else timedelta(seconds=silence)
    effect = Effect(print, False, False, Retry(), limits[0], "Errand", heartbeat_timeout=limits[1])
    return Pulse(effect, now)


def why(pulse: Pulse) -> str | None:
    overdue = pulse.overdue()
    return None if overdue is None else str(overdue)


def test_silence_ends_it_and_each_beat_begins_a_new_one() -> None:
    hands = Hands()
    pulse = pulse_of(hands)
    for _ in range(4):
        hands.at += 9
        assert why(pulse) is None
        pulse.beat()
    hands.at += 10

    assert why(pulse) == "no heartbeat for 10 s"


def test_beats_do_not_move_the_timeout() -> None:
    hands = Hands()
    pulse = pulse_of(hands, timeout=25)
    for _ in range(3):
        pulse.beat()
        hands.at += 9

    assert why(pulse) == "no answer within 25 s"


def test_a_beat_that_comes_too_late_revives_nothing() -> None:
    """Whoever looks later must come to the same end, whenever that is."""
    hands = Hands()
    pulse = pulse_of(hands)
    hands.at += 11
    pulse.beat()

    assert why(pulse) == "no heartbeat for 10 s"


def test_without_heartbeats_only_the_timeout_counts() -> None:
    hands = Hands()
    pulse = pulse_of(hands, silence=None)
    hands.at += 59.9
    assert why(pulse) is None
    hands.at += 0.1
    assert why(pulse) == "no answer within 60 s"


async def test_what_is_async_is_cancelled_when_its_beats_end() -> None:
    """A beat postpones it: what is looked at when the first limit is over finds a new one."""
    pulse = pulse_of(time.monotonic, silence=0.05)
    first = pulse.due
    beaten = asyncio.Event()

    async def effect() -> None:
        while time.monotonic() < first:
            pulse.beat()
            await asyncio.sleep(0)
        beaten.set()
        await asyncio.Event().wait()

    with pytest.raises(Overdue, match=r"no heartbeat for 0\.05 s"):
        await within(effect(), pulse)
    assert beaten.is_set()


async def test_an_effects_own_timeout_error_is_its_own() -> None:
    async def effect() -> None:
        raise TimeoutError("of the client")

    with pytest.raises(TimeoutError, match="of the client"):
        await within(effect(), pulse_of(time.monotonic))


@pytest.mark.parametrize(("beats", "first"), [(True, "completed"), (False, "timed_out")])
def test_in_memory_heartbeats_count_on_the_stores_clock(beats: bool, first: str) -> None:
    """A minute of work, under a limit of half a minute between two beats."""

    def works(action: Any, attempt: Attempt[None] | None, store: MemoryStore) -> Done | None:
        if attempt is not None and attempt.number == 1:
            for _ in range(3):
                store.clock.advance(20)
                if beats:
                    attempt.heartbeat()
        return done(action, attempt, store)

    store = opened(works, heartbeat_timeout=30)
    send(store, "tea")
    store.drain(jump=True)

    assert outcomes(store)[0][0] == first
    assert state(store) == Desk(("tea",))


def test_in_memory_an_async_effect_that_falls_silent_is_cancelled() -> None:
    effects = Effects(desk)

    @effects.act(heartbeat_timeout=0.05, retry=Retry(max_attempts=1))
    async def errand(action: Errand) -> None:
        await asyncio.Event().wait()

    store = MemoryStore(effects)
    store.start(desk, 1)
    send(store, "tea")

    assert store.drain().failed == 1
    assert state(store) == Desk(failed=("tea: TimeoutError: no heartbeat for 0.05 s (1)",))


def test_limits_are_declared_with_the_effect() -> None:
    effects = Effects(make())

    @effects.act(timeout=600, heartbeat_timeout=timedelta(seconds=30), isolated=True)
    def ring(action: Ring) -> Go:
        return Go()

    effect = effects.effect("Ring")
    assert effect is not None
    assert (effect.heartbeat_timeout, effect.isolated) == (timedelta(seconds=30), True)
    with pytest.raises(DefinitionError, match="heartbeat_timeout must be positive, not 0"):
        effects.act(heartbeat_timeout=0)(ring)
