"""`make demo`: a door and a hundred orders on a real PostgreSQL, Valkey, relay and Celery worker.

    python -m examples.demo [--orders N] [--kill]

With DATABASE_URL or BROKER_URL set, that server is used instead of an embedded one. Exit status: 0 if every order came
to its end and nothing was charged or sent twice; 1 if not; 130 after Ctrl-C.
"""

import argparse
import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

from rich.console import Console
from sqlalchemy import create_engine

from examples.demo_door import drive_door
from examples.demo_orders import drive_orders
from examples.demo_watch import DemoFailed, Watch
from examples.flaky import flaky
from fsm_core import FsmError
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.urls import engine_url
from workers.dev.errors import DevServersError
from workers.dev.stack import Stack, stack
from workers.dev.supervise import signals_end

MACHINES = ("examples.door_effects:effects", "examples.orders_effects:effects")
LEASE = "5"
"""Seconds that a silent worker is believed to live: short, so that what a killed one was doing comes back soon."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    options = parsed(arguments)
    console = Console(highlight=False)
    try:
        with signals_end(), tempfile.TemporaryDirectory(prefix="fsm-demo-") as directory:
            return demonstrate(console, Path(directory), options)
    except KeyboardInterrupt:
        console.print("\ninterrupted; nothing was left behind")
        return 130
    except (DemoFailed, DevServersError, FsmError) as error:
        console.print(f"the demo failed: {error}", style="red", markup=False, soft_wrap=True)
        return 1


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--orders", type=int, default=100, metavar="N", help="how many orders (100)")
    parser.add_argument("--seed", type=int, default=1, help="another day, other luck with the payment provider (1)")
    parser.add_argument("--kill", action="store_true", help="kill the worker by SIGKILL when a third of the orders is done")
    options = parser.parse_args(arguments)
    if options.orders < 1:
        parser.error("--orders is 1 or more")
    return options
