"""The slots of one process: how many effects may run in it at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK = 0.2
"""Seconds between two looks of who waits: a signal's handler must take no lock, so nobody is told that the process is to stop."""


class Slots:
    """`most` slots; whoever takes some gives each back once. closed: whether nothing more is to start."""

    def __init__(self, most: int, closed: Callable[[], bool]) -> None:
        self._most = self._free = most
        self._closed = closed
        self._changed = threading.Condition()

    def take(self, wanted: int) -> int:
        """Take as many as are free, `wanted` at most; waits for the first one. Returns how many; 0: nothing more is to start."""
        with self._changed:
            while not self._closed():
                if self._free:
                    return self._taken(wanted)
                self._changed.wait(LOOK)
        return 0

    def more(self, wanted: int) -> int:
        """Take as many as are free, `wanted` at most, without waiting. Returns how many."""
        with self._changed:
            return self._taken(wanted)

    def give(self, count: int) -> None:
        """Give `count` back."""
        with self._changed:
            self._free += count
            self._changed.notify_all()

    def wait(self, lost: Callable[[], int]) -> None:
        """Wait until all are given back but those that are `lost` to effects that nothing can stop."""
        with self._changed:
            while self._most - self._free > lost():
                self._changed.wait(LOOK)

    def _taken(self, wanted: int) -> int:
        count = min(wanted, self._free)
        self._free -= count
        return count
