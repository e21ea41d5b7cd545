"""`fsm dev`: the user's own machines on a stack of their own, until Ctrl-C."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

from workers.cli import output
from workers.cli.session import known_machines
from workers.settings import Settings, read

if TYPE_CHECKING:
    from fsm_core.registry import Registry
    from workers.dev.stack import Stack
    from workers.dev.supervise import Ended

_OURS = ("FSM_MACHINES", "FSM_SCHEMA")


def dev() -> int:
    """Run PostgreSQL, Valkey, a relay and a worker until Ctrl-C.

    Where DATABASE_URL or BROKER_URL is set, that server is used and stays; an embedded one is gone at the end. The worker
    serves the queues of the machines, and those of FSM_QUEUES.
    """
    # The database is not known yet, and a mistake in the list of machines should not cost the start of one.
    environ = {**os.environ, "DATABASE_URL": os.environ.get("DATABASE_URL") or "postgresql://"}
    settings = read(environ=environ)
    queues = _queues(known_machines(settings.machines), settings)
    from workers.dev.stack import stack

    try:
        with stack(machines=settings.machines, queues=queues, on_end=_tell) as running:
            _greet(running, settings.machines, queues)
            running.supervisor.wait()
    except KeyboardInterrupt:
        output.line("fsm dev: everything has ended")
    return 0


def _queues(registry: Registry, settings: Settings) -> list[str]:
    """What the machines name, and the settings: the queues of a `route` are known to nobody before it is asked."""
    return sorted({"default", *(machine.queue for machine in registry.machines()), *(settings.queues or ())})


def _greet(running: Stack, machines: tuple[str, ...], queues: list[str]) -> None:
    served = f"{'queue' if len(queues) == 1 else 'queues'} {', '.join(queues)}"
    output.line(
        f"fsm dev: a relay and a worker are starting for {', '.join(machines)}, {served}. In another terminal:"
    )
    shown = {"DATABASE_URL": running.database_url, "BROKER_URL": running.broker_url}
    shown |= {name: os.environ[name] for name in _OURS if os.environ.get(name)}
    for name, value in shown.items():
        output.line(f"export {name}={shlex.quote(value)}")
    output.line("Ctrl-C ends it all.")
    sys.stdout.flush()


def _tell(ended: Ended) -> None:
    again = "" if ended.again_in is None else f"; it starts again in {ended.again_in:g} s"
    sys.stderr.write(f"fsm dev: {ended.name} ended with status {ended.status}{again}\n")
