"""How often an effect is tried, and how long is waited: tenacity's strategies, without its loops."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tenacity import (
    wait_chain,
    wait_exponential,
    wait_exponential_jitter,
    wait_fixed,
    wait_incrementing,
    wait_none,
    wait_random,
)

from fsm_core import Permanent, Retry
from fsm_core.errors import DefinitionError


class Overloaded(Exception):
    def __init__(self, after: float) -> None:
        super().__init__(after)
        self.after = after


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        (wait_none(), [0, 0, 0, 0]),
        (wait_fixed(7), [7, 7, 7, 7]),
        (wait_fixed(timedelta(minutes=1)), [60, 60, 60, 60]),
        (wait_exponential(multiplier=1, max=5), [1, 2, 4, 5]),
        (wait_incrementing(start=1, increment=10), [1, 11, 21, 31]),
        (wait_chain(wait_fixed(1), wait_fixed(9)), [1, 9, 9, 9]),
        (wait_fixed(1) + wait_fixed(2), [3, 3, 3, 3]),
        (lambda state: timedelta(seconds=state.attempt_number), [1, 2, 3, 4]),
        (lambda state: state.attempt_number - 3, [0, 0, 0, 1]),
    ],
)
def test_a_strategy_of_tenacity_gives_the_delays(wait: Any, seconds: list[float]) -> None:
    """Seconds or timedeltas, by the number of the attempt, and never below zero."""
    retry = Retry(wait=wait)

    assert [retry.delay(n).total_seconds() for n in (1, 2, 3, 4)] == seconds


def test_a_strategy_may_ask_what_was_raised() -> None:
    """The state that it is called with has the exception of the attempt."""
    retry = Retry(wait=lambda state: state.outcome.exception().after)

    assert retry.delay(1, Overloaded(12.5)) == timedelta(seconds=12.5)


@pytest.mark.parametrize(
    ("wait", "lowest", "highest"),
    [
        (wait_random(min=2, max=4), 2, 4),
        (wait_exponential_jitter(initial=1, max=300), 1, 2),
        (None, 1, 2),
    ],
)
def test_jitter_stays_in_its_bounds(wait: Any, lowest: float, highest: float) -> None:
    """Also for the default, exponential from one second."""
    delays = {Retry(wait=wait).delay(1).total_seconds() for _ in range(50)}

    assert all(lowest <= delay <= highest for delay in delays)
    assert len(delays) > 1


def test_the_default_grows_to_five_minutes() -> None:
    """However many attempts there were."""
    assert timedelta(seconds=300) == Retry().delay(40) == Retry().delay(9_999)


@pytest.mark.parametrize("wait", [lambda _: float("inf"), lambda _: 10**12, lambda _: timedelta(days=400)])
def test_no_delay_is_longer_than_thirty_days(wait: Callable[[object], Any]) -> None:
    """A due time must fit the calendar."""
    assert Retry(wait=wait).delay(1) == timedelta(days=30)


@pytest.mark.parametrize(
    ("error", "attempt", "last"),
    [
        (OSError(), 1, False),
        (OSError(), 2, False),
        (OSError(), 3, True),
        (OSError(), 4, True),
        (Permanent("no"), 1, True),
        (ValueError(), 1, True),
        (UnicodeError(), 1, True),
        (KeyError(), 1, False),
    ],
)
def test_an_attempt_is_the_last_by_number_or_by_error(error: Exception, attempt: int, last: bool) -> None:
    """At max_attempts, for Permanent, and for the types of `never` and their subclasses."""
    assert Retry(max_attempts=3, never=(ValueError,)).gives_up(error, attempt) is last


@pytest.mark.parametrize("attempts", [0, -1, 10_001])
def test_a_policy_tries_at_least_once_and_ends(attempts: int) -> None:
    """max_attempts is 1 to 10000: a smallint counts them."""
    with pytest.raises(DefinitionError, match="max_attempts is 1 to 10000"):
        Retry(max_attempts=attempts)
