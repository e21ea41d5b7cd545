"""The demo's stage: the servers, the processes and the flaky shop, for as long as the play lasts."""

import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError

from examples.demo_door import drive_door
from examples.demo_orders import drive_orders
from examples.demo_scene import DemoError, Scene, Watch
from examples.flaky import Shop, flaky
from fsm_core import FsmError
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.urls import engine_url
from workers.dev.errors import DevServersError
from workers.dev.stack import stack
from workers.dev.supervise import signals_end

MACHINES = ("examples.door_effects:effects", "examples.orders_effects:effects")
LEASE = "5"
"""Seconds that a silent worker is believed to live: short, so that what a killed one was doing comes back soon."""


def play(orders: int, seed: int, *, kill: bool) -> int:
    """Play both parts. Returns the exit status; what went wrong is told."""
    console = Console(highlight=False, markup=False)
    try:
        with signals_end(), passing_directory() as directory:
            return perform(console, directory, orders, seed, kill=kill)
    except (DemoError, DevServersError, FsmError, SQLAlchemyError) as error:
        console.print(f"\nThe demo failed: {getattr(error, 'orig', error)}", style="red", soft_wrap=True)
        return 1


def perform(console: Console, directory: Path, orders: int, seed: int, *, kill: bool) -> int:
    """Both parts, on a stack that lives as long as they last."""
    began = time.monotonic()
    watch = Watch(console, directory)
    with flaky(Shop(seed)) as shop:
        env = {"ORDERS_API": shop.url, "DOOR_IRC_LOG": str(directory / "irc.txt"), "FSM_LEASE": LEASE}
        with (
            stack(
                machines=MACHINES, concurrency=16, env=env, log_dir=directory, on_end=watch.ended.append
            ) as running,
            engine_at(running.database_url) as engine,
        ):
            store = PostgresStore(engine, schema=os.environ.get("FSM_SCHEMA") or "fsm")
            scene = Scene(console, watch, running.supervisor, engine, store, shop, directory, tag())
            drive_door(scene)
            fine = drive_orders(scene, orders, kill=kill)
    console.print(f"\nThe whole demo took {time.monotonic() - began:.1f} s; all its processes have ended.")
    return 0 if fine else 1


def tag() -> str:
    """What tells this demo's machines from an earlier one's in a database of somebody's own."""
    return f"-{secrets.token_hex(3)}" if os.environ.get("DATABASE_URL") else ""


@contextmanager
def engine_at(database_url: str) -> Generator[Engine]:
    """An engine of the demo's own, as an application has one."""
    engine = create_engine(engine_url(database_url))
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def passing_directory() -> Generator[Path]:
    """A directory for logs, which is removed whatever happens."""
    directory = Path(tempfile.mkdtemp(prefix="fsm-demo-"))
    try:
        yield directory
    finally:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        shutil.rmtree(directory, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)
