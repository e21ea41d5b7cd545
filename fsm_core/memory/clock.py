"""A virtual clock."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class Clock:
    """Stands still until it is told to go on. Safe to share between threads.

    start: its first time, aware (None: the real time of now). Raises ValueError if it is naive.
    """

    def __init__(self, start: datetime | None = None) -> None:
        if start is not None and start.tzinfo is None:
            raise ValueError("a clock starts at an aware datetime")
        self._now = (start or datetime.now(UTC)).astimezone(UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The time, in UTC."""
        return self._now

    def advance(self, by: float | timedelta) -> datetime:
        """Go on by seconds or a timedelta; returns the new time. Raises ValueError: time does not go back."""
        span = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if span < timedelta(0):
            raise ValueError(f"a clock does not go back: {by}")
        with self._lock:
            self._now += span
            return self._now

    def reach(self, at: datetime) -> None:
        """Go on to `at`, unless it is past already."""
        with self._lock:
            self._now = max(self._now, at.astimezone(UTC))
