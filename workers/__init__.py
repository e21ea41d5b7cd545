"""The processes: Celery app, the one task, relay and worker runtime, the `fsm` command.

`celery -A workers worker` runs a worker; `fsm relay` a relay. `workers.install(app)` puts the one task into an existing
Celery app, so that its own workers run actions too.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.task import install

__all__ = ["install"]


def __getattr__(name: str) -> object:
    """`install` when it is asked for: `fsm --help` and the embedded servers are in this package and need no Celery."""
    if name == "install":
        from workers.task import install

        return install
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
