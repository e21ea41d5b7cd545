"""A process's lease: its row in `workers`, and the heartbeat thread that keeps it."""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import threading
import time
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from fsm_core.errors import StoreError
from fsm_core.postgres.engine import own_engine
from fsm_core.postgres.outbox import PostgresOutbox
from workers.watchdog import STDERR, Mark, Sign

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Engine

    from workers.settings import Settings

log = logging.getLogger(__name__)

BEATS_PER_LEASE = 3
YOUNG_PAUSE = 0.5
"""Seconds between the beats of a worker that is not yet a lease old."""


class Lease:
    """Keeps one row of `workers` alive, by a thread and a connection of its own.

    The id is random per process start: host name and pid collide in containers. If the lease was taken away, all claims
    made under it are void, and a new id is taken.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        kind: str,
        queues: Mapping[str, int],
        known: Mapping[str, Sequence[int]],
        claimed: Callable[[], Mapping[str, tuple[int, str, int]]] = dict,
        on_lost: Callable[[], None] = lambda: None,
        census: Callable[[PostgresOutbox, UUID], None] = lambda _store, _id: None,
        forks: bool = False,
        at_first: Callable[[], None] | None = None,
    ) -> None:
        self.id = uuid4()
        self.pid = os.getpid()
        self._settings = settings
        self._kind, self._queues, self._known = kind, queues, known
        # A child that is forked while the watchdog is armed inherits its locks without its thread, and would hang on them.
        self._guarded = not forks
        self._claimed, self._on_lost, self._census = claimed, on_lost, census
        self._at_first = at_first
        self._pause = settings.lease.total_seconds() / BEATS_PER_LEASE
        self._turn, self._beaten = Mark(), Mark()
        self._store = PostgresOutbox(_engine(settings), settings.schema)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="fsm-lease", daemon=True)

    def start(self) -> None:
        """Register, then beat. Raises StoreError, if the database is not there at the start."""
        self._register(self.id)
        self._thread.start()

    @property
    def signs(self) -> list[Sign]:
        """What shows that it is kept: that its thread turns, whatever is away, and that the database answers."""
        return [
            Sign("turn of the heartbeat", lambda: max(0.0, self._turn.age() - self._pause)),
            Sign("heartbeat", self._beaten.age, vital=False),
        ]

    def stop(self) -> None:
        """End the beat and give the lease back, so that nobody waits for it to run out."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        if self._guarded:
            faulthandler.cancel_dump_traceback_later()
        try:
            self._store.retire(self.id)
        except StoreError as error:
            log.warning("the lease was not given back: %s", error)
        self._store.close()

    def _register(self, worker: UUID) -> None:
        self._store.register(
            worker,
            kind=self._kind,
            host=socket.gethostname(),
            pid=self.pid,
            queues=self._queues,
            known=self._known,
            lease=self._settings.lease,
        )

    def _loop(self) -> None:
        began = counted = time.monotonic()
        warned = self._kind == "child"
        self._begin()
        while not self._stop.wait(self._until_next(began)):
            self._turn()
            self._begin()
            if self._guarded:
                # A process whose interpreter is stuck cannot even beat: end it, its supervisor starts another.
                limit = max(4 * self._settings.lease.total_seconds(), 60)
                faulthandler.dump_traceback_later(limit, exit=True, file=STDERR)
            try:
                self._beat()
                if not warned and self._age(began) >= 1:
                    warned = True
                    self._warn()
                if time.monotonic() - counted >= self._pause:
                    counted = time.monotonic()
                    self._census(self._store, self.id)
            except StoreError as error:
                log.warning("no heartbeat: %s", error)
            except Exception:
                log.exception("the heartbeat failed")

    def _age(self, began: float) -> float:
        """In leases."""
        return (time.monotonic() - began) / self._settings.lease.total_seconds()

    def _until_next(self, began: float) -> float:
        """A worker that has just come tells the relays soon how quick it is: each beat says how many ids a message may carry."""
        young = self._kind != "relay" and self._age(began) < 1
        return min(self._pause, YOUNG_PAUSE) if young else self._pause

    def _begin(self) -> None:
        """What is to be done once; again with the next beat, if the database is away."""
        if self._at_first is None:
            return
        try:
            self._at_first()
        except StoreError as error:
            log.warning("not yet done at the start: %s", error)
            return
        except Exception:
            log.exception("what is to be done at the start failed")
        self._at_first = None

    def _warn(self) -> None:
        """Say once what waits for code that nobody has; one lease after the start, when all that start together are there."""
        for name, version in self._store.unread(self._known):
            log.warning(
                "there are live machines %s of version %d, which no worker here reads; see `fsm upcast --dry-run`",
                name, version,
            )  # fmt: skip

    def _beat(self) -> None:
        kept = self._store.beat(self.id, self._settings.lease, self._claimed())
        self._beaten()
        if kept or self._stop.is_set():
            return
        log.error("the lease of worker %s was taken away; what it runs is void", self.id)
        self._on_lost()
        fresh = uuid4()
        self._register(
            fresh
        )  # first: a claim under an id that no row knows would be taken for a dead worker's
        self.id = fresh


def _engine(settings: Settings) -> Engine:
    return own_engine(settings.database_url, pool_size=1, patience=settings.patience.total_seconds())
