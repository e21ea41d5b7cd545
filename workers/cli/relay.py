"""`fsm relay`: the process that publishes due actions."""

from __future__ import annotations

import os
import sys

from workers.settings import read


def relay() -> None:
    """Publish due actions until it is told to end. Several of them share the work."""
    read()
    sys.stdout.flush()
    sys.stderr.flush()
    # A process of its own making: what the command line loads is a quarter of a relay's memory.
    os.execvp(sys.executable, [sys.executable, "-m", "workers.relay"])  # noqa: S606
