"""Crash points: the named places at which a process can be told to die, so that a test sees what it leaves behind.

`FSM_CRASH_AT=name[:nth[:action]]`, several separated by commas, arms them in one process: when `name` is reached for the nth time
(the first, unless said), the process is killed (`kill`, by SIGKILL), stopped (`stop`, by SIGSTOP), raises `Crashed` (`raise`), or waits
(`sleep=SECONDS`); before, it says so on stderr. `FSM_CRASH_AT=@FILE`: the same is in a file, which is read at each point, so that a process
can be armed while it runs; while there is none, nothing is. Unarmed, as in every production process, a point costs one look at an empty list.
What each crash leaves behind: docs/protocol.md, section 9.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fsm_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VARIABLE = "FSM_CRASH_AT"
FILE = "@"
STDERR = 2
ACTIONS = ("kill", "stop", "raise", "sleep")


class Point(StrEnum):
    """Every place where a process may be told to die. tests/chaos reaches each of them."""

    ADVANCE_BEFORE_COMMIT = "advance.before_commit"
    """A decision under the machine's lock is written, and not committed."""

    ADVANCE_AFTER_COMMIT = "advance.after_commit"
    """A decision is committed, and its caller does not know."""

    RELAY_AFTER_ADMIT = "relay.after_admit"
    """Blocked rows are admitted, and not published."""

    RELAY_AFTER_MARK = "relay.after_mark"
    """Rows are marked as published, and no message is sent."""

    RELAY_AFTER_PUBLISH = "relay.after_publish"
    """The messages are with the broker."""

    WORKER_AFTER_RECEIVE = "worker.after_receive"
    """A message has left the broker, and nothing of it is claimed."""

    WORKER_AFTER_CLAIM = "worker.after_claim"
    """The attempt is counted, and its effect has not begun."""

    WORKER_IN_EFFECT = "worker.in_effect"
    """Within an effect: reached by effects that were made for it, as those of chaos/machines.py."""

    WORKER_AFTER_EFFECT = "worker.after_effect"
    """The effect has returned, and nothing of that is committed."""

    WORKER_AFTER_FINISH = "worker.after_finish"
    """The result is committed, and its process does not know."""

    RECONCILE_AFTER_DEAD = "reconcile.after_dead"
    """Leases are taken away, and what ran under them has not gone back."""

    RECONCILE_AFTER_REQUEUE = "reconcile.after_requeue"
    """What dead workers ran has gone back."""

    MIGRATE_MID = "migrate.mid"
    """The tables are made, and not committed."""


LIFE = tuple(point for point in Point if point is not Point.MIGRATE_MID)
"""The points in the life of one action: whoever takes up what one process has left when it died at any of them may die at any of them, too.
The migration's is in nobody's: its transaction makes the tables that actions are in."""


class Crashed(BaseException):
    """Raised by a point that is armed with `raise`. No `except Exception` takes it for something else."""


@dataclass(frozen=True, slots=True)
class Order:
    """What happens when a point is reached for the `nth` time."""

    nth: int = 1
    action: str = "kill"
    seconds: float = 0.0


def orders(text: str) -> dict[str, Order]:
    """What `FSM_CRASH_AT` says, by point. Raises ConfigurationError: no such point or action, or no number."""
    return dict(_order(part) for part in text.replace(",", " ").split())


def arm(environ: Mapping[str, str] = os.environ) -> None:
    """Arm this process by its environment; done when the module is imported. Raises as `orders`."""
    _armed.clear()
    _reached.clear()
    text = environ.get(VARIABLE, "")
    if text.startswith(FILE):
        _armed.append(partial(_written, Path(text.removeprefix(FILE))))
    elif given := orders(text):
        _armed.append(lambda: given)


def reached(point: Point) -> None:
    """Say that `point` is reached. Returns, unless it is armed for this time. Raises as `orders`, if a file says what makes no sense."""
    for armed in _armed:
        if (order := armed().get(point)) is not None:
            _reach(point, order)


_armed: list[Callable[[], Mapping[str, Order]]] = []
"""Empty, or what says how this process is armed."""

_reached: dict[str, int] = {}
_lock = threading.Lock()


def _written(file: Path) -> dict[str, Order]:
    try:
        return orders(file.read_text())
    except FileNotFoundError:
        return {}


def _order(part: str) -> tuple[str, Order]:
    name, nth, action = (*part.split(":"), "", "")[:3]
    verb, _, seconds = (action or "kill").partition("=")
    if verb not in ACTIONS:
        raise ConfigurationError(f"{VARIABLE}: {part!r}: the actions are {', '.join(ACTIONS)}")
    try:
        return Point(name), Order(int(nth or 1), verb, float(seconds or 0))
    except ValueError as error:
        raise ConfigurationError(f"{VARIABLE}: {part!r}: {error}") from error


def _reach(point: Point, order: Order) -> None:
    with _lock:
        _reached[point] = count = _reached.get(point, 0) + 1
    if count != order.nth:
        return
    os.write(STDERR, f"crash point {point}, process {os.getpid()}, {time.time():.3f}\n".encode())
    if order.action == "raise":
        raise Crashed(point)
    if order.action == "sleep":
        time.sleep(order.seconds)
    else:
        os.kill(os.getpid(), signal.SIGKILL if order.action == "kill" else signal.SIGSTOP)


arm()
