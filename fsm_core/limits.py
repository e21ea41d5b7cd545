"""Cluster-wide limits: how much of one name (and key) may be under way at a time, and how often one may begin.

The bucket is the classical token bucket: it holds `burst` tokens at most, gains `rate` of them per `per`, and one action takes
one token when it is admitted. Nothing is given back. So in any span of `per` at most `rate + burst` begin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from fsm_core.errors import ConfigurationError
from fsm_core.types import MAX_KEY

SECOND = timedelta(seconds=1)
MAX_PER = timedelta(days=366)
MAX_COUNT = 2**31 - 1

ALMOST = 1e-9
"""What a sum of floats may lack of a whole token."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit, as operators and deployments set it. Each key of its name has one of its own.

    name: what a `Route(limit=)` names, or `queue:<queue>`, which holds for every action of that queue.
    max_running: how many actions may be admitted and not ended (0: none, a pause; None: any number). rate, per: how many may
    begin per `per` (None: any number). burst: how many may begin at once after a rest (None: `rate`, rounded up). With neither,
    whatever comes is admitted. Raises ConfigurationError.
    """

    name: str
    max_running: int | None = None
    rate: float | None = None
    per: timedelta = SECOND
    burst: int | None = None

    def __post_init__(self) -> None:
        name = self.name
        if type(name) is not str or not 0 < len(name) <= MAX_KEY or not name.isprintable():
            raise ConfigurationError(
                f"a limit's name is 1 to {MAX_KEY} printable characters, not {name!r:.100}"
            )
        self._must(
            _is_count(self.max_running, 0), f"max_running= is a whole number from 0, not {self.max_running!r}"
        )
        self._must(_is_rate(self.rate), f"rate= is a number above 0, not {self.rate!r}")
        in_range = timedelta(0) < self.per <= MAX_PER if type(self.per) is timedelta else False
        self._must(in_range, f"per= is a timedelta above 0 and up to {MAX_PER.days} days, not {self.per!r}")
        self._must(_is_count(self.burst, 1), f"burst= is a whole number from 1, not {self.burst!r}")
        self._must(self.burst is None or self.rate is not None, "burst= needs a rate=")
        if self.rate is not None and self.burst is None:
            object.__setattr__(self, "burst", max(1, math.ceil(self.rate)))

    def _must(self, holds: bool, said: str) -> None:  # noqa: FBT001 - a private check
        if not holds:
            raise ConfigurationError(f"limit {self.name!r}: {said}")


def refilled(limit: Limit, tokens: float, elapsed: timedelta) -> float:
    """The tokens of a bucket that held `tokens`, after a time; a new bucket is full. 0 for a limit without a rate."""
    if limit.rate is None or limit.burst is None:
        return 0.0
    return min(float(limit.burst), tokens + limit.rate * (max(elapsed, timedelta(0)) / limit.per))


def next_token(limit: Limit, tokens: float) -> timedelta:
    """How long until a bucket of `tokens` holds a whole one; nothing, if it does or there is no rate."""
    if limit.rate is None or tokens + ALMOST >= 1:
        return timedelta(0)
    # A microsecond more than it takes: what is rounded down would find the bucket not quite full.
    return (1 - tokens) / limit.rate * limit.per + timedelta(microseconds=1)


def _is_count(value: object, least: int) -> bool:
    return value is None or (type(value) is int and least <= value <= MAX_COUNT)


def _is_rate(value: object) -> bool:
    return value is None or (type(value) in (int, float) and 0 < float(str(value)) <= MAX_COUNT)
