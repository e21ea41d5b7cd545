"""The ids that a process was sent and could not claim. No row tells of them: whoever writes to the broker would write to Postgres."""

from __future__ import annotations

import logging
import threading
import time

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two lines, however many come."""


class Unclaimed:
    """Their number. Why an id fits no action cannot be known: its message is a copy, lost a race, was replayed or forged."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = self._told = 0
        self._due = 0.0

    def add(self, count: int) -> None:
        """So many more."""
        with self._lock:
            self._count += count

    def tell(self, *, last: bool = False) -> None:
        """Log how many came since the line before, if any did and that line is old enough. last: however old it is."""
        with self._lock:
            count, new, now = self._count, self._count - self._told, time.monotonic()
            if not new or (now < self._due and not last):
                return
            self._told, self._due = count, now + EVERY
        log.info(
            "%d ids in messages fitted no action (sent twice, lost a race, replayed or forged); %d since the start",
            new, count,
        )  # fmt: skip
