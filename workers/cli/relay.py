"""`fsm relay`: the process that publishes due actions."""

from __future__ import annotations

from workers.settings import read


def relay() -> int:
    """Publish due actions until it is told to end. Several of them share the work."""
    settings = read()
    from workers.relay import main as run

    return run(settings)
