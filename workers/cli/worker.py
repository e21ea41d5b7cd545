"""`fsm worker`: a Celery worker, as this project runs one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from workers.cli.session import known_machines
from workers.settings import read

# Workers need not know of each other: the rows say what is whose. An option of Celery's that is absent here has no opposite.
_DEFAULTS = {
    ("--loglevel", "INFO"): ("-l", "--loglevel"),
    ("--without-gossip",): ("--without-gossip",),
    ("--without-mingle",): ("--without-mingle",),
    ("--without-heartbeat",): ("--without-heartbeat", "--heartbeat-interval", "-E", "--task-events"),
}


def worker(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="CELERY_OPTIONS", help="Options of `celery worker`; put `--` before them."),
    ] = None,
) -> None:
    """Run effects, as a Celery worker. It is `celery -A workers worker` with the options given."""
    known_machines(read().machines)
    command = celery_worker(arguments or ())
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(command[0], command)  # noqa: S606 - Celery takes this process over, its signals too


def celery_worker(arguments: Sequence[str]) -> list[str]:
    """The command of a worker: `arguments`, and those of our defaults that they say nothing about."""
    # Flower takes a worker whose events have no heartbeat for gone.
    watched = os.environ.get("FSM_FLOWER") == "1"
    defaults = [
        part
        for parts, others in _DEFAULTS.items()
        if not any(_says(argument, others) for argument in arguments)
        for part in parts
        if not (watched and part == "--without-heartbeat")
    ]
    return [sys.executable, "-m", "celery", "-A", "workers", "worker", *defaults, *arguments]


def _says(argument: str, options: Sequence[str]) -> bool:
    """Whether the argument is one of the options, also as `--name=value` and `-nvalue`."""
    return any(
        argument == option or argument.startswith(f"{option}=" if option.startswith("--") else option)
        for option in options
    )
