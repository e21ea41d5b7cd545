"""How long effects last in a process: what may be claimed ahead."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

AHEAD = 0.050
"""Seconds of work that may be claimed ahead: where effects are this quick, a claim for each would cost more than it saves."""

MOST_AT_ONCE = 50


@dataclass
class Pace:
    """How long effects last here, on a moving average in seconds."""

    average: float = 1.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def learn(self, seconds: float) -> None:
        """One more effect lasted so long."""
        with self.lock:
            self.average += (seconds - self.average) * 0.1

    @property
    def ahead(self) -> int:
        """How many may be claimed beyond what starts now."""
        return min(int(AHEAD / max(self.average, 1e-6)), MOST_AT_ONCE)
