"""`fsm dev`: the user's own machines on a stack of their own, until Ctrl-C."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

from workers.cli import output
from workers.cli.session import known_machines
from workers.settings import read

if TYPE_CHECKING:
    from workers.dev.stack import Stack
    from workers.dev.supervise import Ended

_OURS = ("FSM_MACHINES", "FSM_SCHEMA")


def dev() -> int:
    """Run PostgreSQL, Valkey, a relay and a worker until Ctrl-C.

    Where DATABASE_URL or BROKER_URL is set, that server is used and stays; an embedded one is gone at the end.
    """
    # The database is not known yet, and a mistake in the list of machines should not cost the start of one.
    environ = {**os.environ, "DATABASE_URL": os.environ.get("DATABASE_URL") or "postgresql://"}
    settings = read(environ=environ)
    known_machines(settings.machines)
    from workers.dev.stack import stack

    try:
        with stack(machines=settings.machines, on_end=_tell) as running:
            _greet(running, settings.machines)
            running.supervisor.wait()
    except KeyboardInterrupt:
        output.line("fsm dev: everything has ended")
    return 0


def _greet(running: Stack, machines: tuple[str, ...]) -> None:
    output.line(f"fsm dev: a relay and a worker are starting for {', '.join(machines)}. In another terminal:")
    shown = {"DATABASE_URL": running.database_url, "BROKER_URL": running.broker_url}
    shown |= {name: os.environ[name] for name in _OURS if os.environ.get(name)}
    for name, value in shown.items():
        output.line(f"export {name}={shlex.quote(value)}")
    output.line("Ctrl-C ends it all.")
    sys.stdout.flush()


def _tell(ended: Ended) -> None:
    again = "" if ended.again_in is None else f"; it starts again in {ended.again_in:g} s"
    sys.stderr.write(f"fsm dev: {ended.name} ended with status {ended.status}{again}\n")
