"""The relay process: ticks while there is work, sleeps on the bell while there is none. Any number of them may run."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from tenacity import RetryCallState, wait_random_exponential

from fsm_core.delivery.reconcile import reconcile
from fsm_core.delivery.relay import Relay, Tick
from fsm_core.delivery.retention import Keeper
from fsm_core.errors import BrokerUnavailable, ConfigurationError, DatabaseError, SchemaError, StoreError
from fsm_core.postgres.engine import own_engine
from fsm_core.postgres.outbox import PostgresOutbox
from workers import settings as configuration
from workers.app import configured
from workers.bell import Bell
from workers.broker import KombuBroker
from workers.lease import Lease
from workers.watchdog import Mark, Sign, Watchdog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery import Celery

    from fsm_core.delivery.ports import Queue
    from workers.settings import Settings

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks at queues, lanes, dead workers and lost messages; also the longest sleep."""

LINGER, LINGER_STEP = 0.03, 0.005
"""After work, look again this often and this long: under load the next row is a moment away."""

PER_ROW, PER_TICK = 0.002, 0.02
"""Seconds that a relay lets rows gather after a tick that published several: so much for each of them, and so much at most. Each
tick, message, claim and commit then carries more of them. One row alone is no load: then nothing waits."""

FORGET_EVERY = 600.0
"""Seconds between two removals of workers that are long gone, and of limits' empty buckets."""

FULL_PAUSE = 0.01
POLL_FIRST, POLL_MOST = 0.002, 0.05
LOST_PATIENCE = 60.0


class RelayProcess:
    """One relay. `run` returns when `stop` is called, or raises StoreError if the database was away for too long."""

    def __init__(self, settings: Settings, app: Celery) -> None:
        self._settings = settings
        patience = settings.patience.total_seconds()
        engine = own_engine(settings.database_url, pool_size=2, patience=patience, durable=False)
        self._store = PostgresOutbox(engine, settings.schema, low_water=True)
        self._broker = KombuBroker(app)
        self._keeper = Keeper(self._store, settings.retention)
        self._relay = Relay(self._store, self._broker, uuid4)
        self._queues: Mapping[str, Queue] = {}
        self._looked = 0.0
        self._since: float | None = None
        self._stop = threading.Event()
        self._poll = POLL_FIRST
        self._last = Tick()
        self._checked = False
        self._turned, self._ticked, self._forgot = Mark(), Mark(), Mark()

    @property
    def signs(self) -> list[Sign]:
        """What shows that it is at work: that its loop turns, whatever is away, and that it ticks."""
        return [
            Sign("turn of the relay's loop", self._turned.age),
            Sign("tick", self._ticked.age, vital=False),
        ]

    def stop(self) -> None:
        """Ask `run` to return; from any thread or signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Tick and sleep until stopped."""
        away: float | None = None
        attempt = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
        pause = wait_random_exponential(multiplier=0.1, max=5)
        while not self._stop.is_set():
            self._turned()
            try:
                self._connected()
            except SchemaError:
                raise
            except StoreError as error:
                now, since, self._since = time.monotonic(), self._since, None
                # A connection that worked for a while begins a new count of failures.
                worked = since is not None and now - since > EVERY * 10
                away = now if away is None or worked else away
                attempt.attempt_number = 1 if away == now else attempt.attempt_number + 1
                if now - away > LOST_PATIENCE:
                    raise
                log.warning("the database is away: %s", error)
                self._stop.wait(float(pause(attempt)))

    def _connected(self) -> None:
        """Tick for as long as the database answers."""
        patience = self._settings.patience.total_seconds()
        lease = Lease(self._settings, kind="relay", queues={}, known={})
        bell = Bell(self._settings.database_url, self._settings.schema, patience=patience)
        try:
            lease.start()
            self._since = time.monotonic()
            self._looked = 0.0
            while not self._stop.is_set():
                self._gather()
                tick = self._tick()
                if tick.broker_down is not None:
                    log.warning("nothing is published: %s", tick.broker_down)
                    self._stop.wait(EVERY)
                elif tick.full and not tick.published:
                    self._stop.wait(FULL_PAUSE)
                elif tick.idle:
                    self._idle(bell)
        finally:
            self._turned()
            bell.close()
            lease.stop()
            self._broker.close()
            self._store.close()

    def _tick(self) -> Tick:
        every = time.monotonic() - self._looked >= EVERY
        if every:
            self._look()
            self._turned()
            self._check_broker()
        tick = self._once()
        self._turned()
        self._ticked()
        if every:
            self._relay.shrink(self._queues)
        return tick

    def _check_broker(self) -> None:
        """Once, as soon as it answers. Raises ConfigurationError."""
        if not self._checked and self._last.broker_down is None:
            with suppress(BrokerUnavailable):
                self._broker.check()
                self._checked = True

    def _gather(self) -> None:
        """Under load, let some more rows come before the next tick."""
        if self._last.published > 1 and not (self._last.full or self._last.limited):
            self._stop.wait(min(self._last.published * PER_ROW, PER_TICK))

    def _look(self) -> None:
        """Once a second: who is there, who is dead, what was lost."""
        self._looked = time.monotonic()
        self._queues = self._store.queues()
        lease = self._settings.lease
        connected_for = time.monotonic() - (self._since or time.monotonic())
        repaired = reconcile(
            self._store,
            self._broker,
            self._queues,
            lease=lease,
            may_bury=connected_for > lease.total_seconds(),
        )
        if repaired.dead or repaired.requeued or repaired.republished:
            log.info("repaired: %s", repaired)
        self._prune()
        if self._forgot.age() >= FORGET_EVERY:
            self._forgot()
            self._store.forget_workers()

    def _prune(self) -> None:
        """What the database has against it (a foreign key of the application's) must not keep actions back."""
        try:
            if any(pruned := self._keeper.tick(self._looked)):
                log.info("pruned: %s", pruned)
        except DatabaseError as error:
            log.warning("nothing was pruned: %s", error)

    def _idle(self, bell: Bell) -> None:
        until = time.monotonic() + LINGER
        while time.monotonic() < until:
            if self._stop.wait(LINGER_STEP) or self._has_work():
                return
        if bell.sleep(self._has_work, self._longest):
            self._poll = POLL_FIRST
            return
        self._stop.wait(self._poll)
        self._poll = min(self._poll * 2, POLL_MOST if bell.listens else EVERY)

    def _has_work(self) -> bool:
        """Look once more, by a tick: what it finds is done."""
        return not self._once().idle or self._stop.is_set()

    def _once(self) -> Tick:
        """A tick; after one that found work, polling begins anew."""
        self._last = self._relay.tick(self._queues, admit=True)
        if not self._last.idle:
            self._poll = POLL_FIRST
        return self._last

    def _longest(self) -> float:
        if self._stop.is_set():
            return 0
        open_ = [queue for queue in self._queues if queue not in self._last.closed]
        soonest = (self._store.next_due(open_), self._last.wake)
        sleep = EVERY - (time.monotonic() - self._looked)
        return max(0.0, min([sleep, *(span.total_seconds() for span in soonest if span is not None)]))


def main(settings: Settings) -> int:
    """Run one relay until SIGTERM or SIGINT. Returns the exit status: 0, or 1 with a logged reason."""
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s: %(levelname)s] %(message)s")
    app = configured()
    app.conf.broker_url = settings.broker_url
    process = RelayProcess(settings, app)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.stop())
    log.info("relay %s:%d", socket.gethostname(), os.getpid())
    Watchdog(settings, process.signs).start()
    _trim()
    try:
        process.run()
    except (StoreError, BrokerUnavailable, ConfigurationError) as error:
        log.error("the relay gives up: %s", error)  # noqa: TRY400 - why is in the message
        return 1
    return 0


def _trim() -> None:
    """Give back what the imports have left free, a sixth of what the process holds: glibc keeps it for itself."""
    with suppress(AttributeError, OSError):  # another libc
        ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    sys.exit(main(configuration.read()))
