"""Never deaf: a process lives by what it gets done, not by being there.

A watchdog looks at the *signs* of its process. While all of them are fresh it touches FSM_LIVENESS_FILE; a sign that has
been stale for too long ends the process with status 1, for its supervisor to start another. What can wait for a server
waits for a bounded time (`fsm_core.postgres.patience`, Celery's socket timeouts), so this is the last line, not the first.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery.bootsteps import RUN
from celery.concurrency import solo
from celery.worker import state

from fsm_core.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from celery.worker.consumer import Consumer

    from workers.settings import Settings

log = logging.getLogger(__name__)

EVERY = 1.0
STDERR = 2
"""The descriptor: Celery puts objects without one in the place of sys.stderr."""

FAILED = 1


@dataclass(frozen=True)
class Sign:
    """One thing that a process must get done again and again.

    name: what it is, for the log. age: seconds since it was last done; 0 while nothing of it is to be done. vital: a process
    that does not get it done ends; else it only does not look alive, as while its database is away.
    """

    name: str
    age: Callable[[], float]
    vital: bool = True


class Mark:
    """When something was last done."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def __call__(self) -> None:
        """It is done now."""
        self._at = time.monotonic()

    def age(self) -> float:
        """Seconds since."""
        return time.monotonic() - self._at


class Watchdog:
    """A thread that looks at the signs. leave: asked first to end the process in good order; returns whether it will."""

    def __init__(
        self, settings: Settings, signs: Sequence[Sign], leave: Callable[[], bool] = lambda: False
    ) -> None:
        self._signs, self._leave, self._liveness = signs, leave, settings.liveness
        self._fresh = settings.lease.total_seconds()
        self._limit = settings.stuck.total_seconds()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="fsm-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more: the process ends by itself."""
        self._stop.set()

    def _loop(self) -> None:
        pause = min(EVERY, self._limit / 10)
        awake = Mark()
        slept = Mark()
        while not self._stop.wait(pause):
            if slept.age() > self._limit / 4:
                awake()  # the whole process stood still (SIGSTOP, no processor): its signs are old for no fault of theirs
            ages = [(sign, sign.age()) for sign in self._signs]
            if self._liveness is not None and all(age <= self._fresh for _, age in ages):
                self._touch(self._liveness)
            stale = [f"{sign.name} for {age:.0f} s" for sign, age in ages if sign.vital and age > self._limit]
            if stale and awake.age() > self._limit:
                self._end(f"no {', no '.join(stale)}")
                return
            slept()

    def _touch(self, liveness: Path) -> None:
        """A file that cannot be written is found by whoever looks at it; this thread must go on."""
        try:
            liveness.touch()
        except OSError as error:
            log.warning("FSM_LIVENESS_FILE: %s", error)

    def _end(self, why: str) -> None:
        log.critical("this process ends, for its supervisor to start another: %s", why)
        if self._leave():
            return
        faulthandler.dump_traceback(file=STDERR, all_threads=True)
        os._exit(FAILED)


class Ears:
    """Whether a Celery consumer hears its broker: asked within its own loop, so that a loop that is stuck does not answer.

    consumer: Celery's. ping: raises BrokerUnavailable if the broker does not answer on another connection either: a broker that is
    away is waited for, as long as it takes. wonder: after how many seconds without an answer it is pinged.
    """

    def __init__(self, consumer: Consumer, ping: Callable[[], None], *, wonder: float) -> None:
        self._consumer, self._ping, self._wonder = consumer, ping, wonder
        self._heard = time.monotonic()

    def age(self) -> float:
        """Seconds since it heard the broker, had no room for more, or the broker was away."""
        if self._consumer.connection:
            self._consumer.call_soon(self._listen)
        if time.monotonic() - self._heard > self._wonder and (self._works_alone() or self._is_away()):
            self._heard = time.monotonic()
        return time.monotonic() - self._heard

    def _listen(self) -> None:
        """Within the loop. Redis: when the last BRPOP was sent, which is after the one before was answered, within a second.

        Other transports have a heartbeat of their own: there it is enough that the loop turns.
        """
        tasks = self._consumer.task_consumer
        if tasks is None:
            return
        asked = getattr(tasks.channel, "_brpop_sent_at", None)
        full = not tasks.channel.qos.can_consume()
        self._heard = max(self._heard, time.monotonic() if asked is None or full else asked)

    def _works_alone(self) -> bool:
        """The solo pool runs effects in the loop itself, which stands still meanwhile."""
        return isinstance(self._consumer.pool, solo.TaskPool) and bool(state.active_requests)

    def _is_away(self) -> bool:
        try:
            self._ping()
        except BrokerUnavailable:
            return True
        return False

    def leave(self) -> bool:
        """Ask the worker to stop as by SIGTERM, and to say that it failed. Returns whether its loop has begun to."""
        state.should_stop = FAILED
        began = time.monotonic()
        while time.monotonic() - began < self._wonder:
            if self._consumer.blueprint.state != RUN:
                return True
            time.sleep(0.1)
        return False
