"""How far back a relay looks: dead rows at the old end of a queue's index are passed over, not read at each poll.

A snapshot that stays open (a dump, an analyst's query) keeps every version that a row had since; each row that went through the queue
leaves an entry in its index that nobody may remove, and a poll reads them all: 100,000 of them are 2,200 pages. So once in a while a
relay looks at everything, and between only at what is younger than the oldest row it found. What commits late with an older time, or
is put back with the time that it had, is seen at the next whole look.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = 1.0
"""Seconds from one whole look to the next."""

MARGIN = timedelta(seconds=1)
"""How long a transaction may take between the time that it writes and its commit, and still be seen at once."""

ALL = timedelta(days=36_500)
"""So far back is a whole look."""


class Look(NamedTuple):
    """One look: when it began, and how far back it goes from now."""

    began: float
    back: timedelta

    @property
    def whole(self) -> bool:
        """Whether it is at everything."""
        return self.back == ALL


class LowWater:
    """What one relay remembers of each queue. clock: seconds that do not go back; only spans of it are used."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._oldest: dict[str, Look] = {}

    def look(self, queue: str) -> Look:
        """How the next look goes."""
        now, last = self._clock(), self._oldest.get(queue)
        if last is None or now - last.began >= EVERY:
            return Look(now, ALL)
        return Look(now, last.back + timedelta(seconds=now - last.began) + MARGIN)

    def found(self, queue: str, look: Look, oldest: timedelta | None) -> None:
        """After a whole look: the age of the oldest row that is left there; None: none is."""
        if look.whole:
            self._oldest[queue] = Look(look.began, max(oldest or timedelta(0), timedelta(0)))

    def forget(self) -> None:
        """Rows were put back as old as they were: the next look is whole."""
        self._oldest.clear()
