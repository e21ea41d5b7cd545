"""Running effects in one process: claim what can start now, run it outside any transaction, hand the result to the finisher."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from fsm_core.delivery.outcome import Completed, Result, describe, unknown
from fsm_core.delivery.ports import Claimed, Move
from fsm_core.errors import FsmError, StoreError
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox, own_engine
from fsm_core.types import ActionId, ActionStatus
from workers.bounds import Bound
from workers.effect import Runner
from workers.finisher import Finisher
from workers.lease import Lease
from workers.pace import Pace
from workers.schedules import ensure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fsm_core.registry import Registry
    from workers.settings import Settings

log = logging.getLogger(__name__)


class Runtime:
    """The worker's side of the protocol in one process.

    kind: the row's kind, "node" or "child". queues: queue -> slots, as the row says; one with fewer than the process has is
    bounded to them. slots: effects at once. Raises StoreError at construction, if the database is not there.
    """

    def __init__(
        self, settings: Settings, registry: Registry, *, kind: str, queues: Mapping[str, int], slots: int
    ) -> None:
        self._store = PostgresOutbox(own_engine(settings.database_url, pool_size=slots + 2), settings.schema)
        self._slots = threading.Semaphore(slots)
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="fsm-effect")
        self._pace = Pace()
        self._bounds = {queue: Bound(most) for queue, most in queues.items() if most < slots}
        self._draining = threading.Event()
        self._claims_lock = threading.Lock()
        self._claims: Counter[UUID] = Counter()
        self._claimed: dict[str, tuple[int, str]] = {}
        self._finisher = Finisher(self._store, registry, self._ended)
        self._runner = Runner(registry, self._finisher.put, self._abandon if kind == "child" else None)
        self._lease = Lease(
            settings, kind=kind, queues=queues, known=registry.known(), claimed=lambda: dict(self._claimed),
            on_lost=self._runner.void, census=self._census, at_first=lambda: self._schedules(settings, registry),
        )  # fmt: skip
        self._lease.start()
        self._finisher.start()
        self._runner.start()

    def handle(self, ticket: UUID, ids: Sequence[ActionId], queue: str | None = None) -> None:
        """Run what the message names and is still to be started; the rest is dropped. Returns when the effects ended.

        queue: where the message came from. Of one that is bounded here and full, the ids wait for its own effects to end, and
        the thread is free for other queues at once.
        Claims only what starts now, or is so quick that it as good as does: else a crash would burn attempts of effects
        that never started.
        """
        bound = None if queue is None else self._bounds.get(queue)
        if bound is not None and not self._draining.is_set():
            self._handle_bounded(bound, ticket, ids)
            return
        left = list(ids)
        while left and not self._draining.is_set():
            slots = self._take(len(left))
            now, left = left[: slots + self._pace.ahead], left[slots + self._pace.ahead :]
            claimed: list[Claimed] | None = None
            try:
                claimed = self._claim(ticket, now)
            except StoreError as error:
                # They stay published under their ticket: the reconciler sends the message again.
                log.warning("nothing could be claimed: %s", error)
                return
            finally:
                if claimed is None:
                    self._give(slots)
            self._run(claimed, slots)
        if left:
            self._hand_back(ticket, left)

    def drain(self) -> None:
        """Start nothing more: what is not claimed yet goes back, for another worker to take at once."""
        self._draining.set()

    def close(self) -> None:
        """A graceful end: wait for effects, commit what came of them, give the lease back."""
        self._pool.shutdown(wait=True)
        self._runner.stop()
        self._finisher.stop()
        self._lease.stop()
        self._store.close()

    def _handle_bounded(self, bound: Bound, ticket: UUID, ids: Sequence[ActionId]) -> None:
        wanted = bound.put(ticket, ids)
        if not wanted:
            return
        slots = self._take(wanted)
        bound.leave(wanted - slots)
        if slots == 1:
            self._run_bounded(bound)
        else:
            wait([self._pool.submit(self._run_bounded, bound) for _ in range(slots)])

    def _run_bounded(self, bound: Bound) -> None:
        """A lane of a bounded queue, in one slot of the process: one effect after another, for as long as any waits."""
        try:
            while (batch := bound.next()) is not None:
                self._run_next(bound.pace, *batch)
        except BaseException:
            bound.leave(1)
            raise
        finally:
            self._give(1)

    def _run_next(self, pace: Pace, ticket: UUID, ids: Sequence[ActionId]) -> None:
        if self._draining.is_set():
            self._hand_back(ticket, ids)
            return
        try:
            claimed = self._claim(ticket, ids)
        except StoreError as error:
            log.warning("nothing could be claimed: %s", error)
            return
        self._run_all(claimed, pace)

    def _hand_back(self, ticket: UUID, ids: Sequence[ActionId]) -> None:
        moves = [
            Move(each, ActionStatus.PUBLISHED, ticket, ActionStatus.PENDING) for each in dict.fromkeys(ids)
        ]
        try:
            self._store.move(moves)
        except StoreError as error:
            log.warning("%d actions stay published, for the reconciler: %s", len(moves), error)

    def _claim(self, ticket: UUID, ids: Sequence[ActionId]) -> list[Claimed]:
        claim = uuid4()
        self._hold(claim, 1)  # before it is in the database: a census in between must not take it for a stray
        claimed: list[Claimed] = []
        try:
            claimed = self._store.claim(self._lease.id, list(dict.fromkeys(ids)), ticket, claim)
            self._hold(claim, sum(each.tracked and each.outcome is None for each in claimed))
        finally:
            self._forget(claim)
        for each in claimed:
            count, newest = self._claimed.get(each.queue, (0, ""))
            self._claimed[each.queue] = count + 1, max(newest, each.published_at.isoformat())
        return claimed

    def _run(self, claimed: Sequence[Claimed], slots: int) -> None:
        lanes = [claimed[n::slots] for n in range(slots)]
        busy = [lane for lane in lanes if lane]
        self._give(slots - max(len(busy), 0))
        if len(busy) <= 1:
            for lane in busy:
                self._run_lane(lane)
            return
        wait([self._pool.submit(self._run_lane, lane) for lane in busy])

    def _run_lane(self, lane: Sequence[Claimed]) -> None:
        try:
            self._run_all(lane, self._pace)
        finally:
            self._give(1)

    def _run_all(self, lane: Sequence[Claimed], pace: Pace) -> None:
        for claimed in lane:
            began = time.monotonic()
            self._start(claimed)
            pace.learn(time.monotonic() - began)

    def _start(self, claimed: Claimed) -> None:
        try:
            if claimed.outcome is None:
                self._runner.run(claimed)
                return
            self._finisher.put(Result(claimed, Completed()))  # whoever it is for, that is who must be known
        except FsmError as error:  # nobody here knows its machine, version or action
            self._release(claimed, error)
        except (
            Exception
        ) as bug:  # in a payload class: whatever it is, the claim must not stay without a result
            log.exception("action %s could not be started", claimed.id)
            self._release(claimed, bug)

    def _release(self, claimed: Claimed, error: Exception) -> None:
        if claimed.tracked:
            self._finisher.put(
                Result(claimed, unknown(claimed, f"no worker here can run it: {describe(error)}"))
            )
        else:
            log.error("untracked action %s was lost: %s", claimed.id, error)

    def _take(self, wanted: int) -> int:
        self._slots.acquire()
        taken = 1
        while taken < wanted and self._slots.acquire(blocking=False):
            taken += 1
        return taken

    def _give(self, slots: int) -> None:
        for _ in range(slots):
            self._slots.release()

    def _ended(self, result: Result) -> None:
        # A late result is the second of its attempt: the first one has let go of the claim, which neighbours may share.
        if result.claimed.outcome is None and not result.late:
            self._forget(result.claimed.token)

    def _hold(self, claim: UUID, count: int) -> None:
        with self._claims_lock:
            self._claims[claim] += count

    def _forget(self, claim: UUID) -> None:
        with self._claims_lock:
            self._claims[claim] -= 1
            if self._claims[claim] <= 0:
                del self._claims[claim]

    def _abandon(self) -> None:
        """A forked child with an effect that cannot be stopped: commit what is known, then end; the pool starts another."""
        try:
            self._finisher.flush(timeout=10)
            self._lease.stop()
        finally:
            os._exit(os.EX_SOFTWARE)

    def _schedules(self, settings: Settings, registry: Registry) -> None:
        engine = own_engine(settings.database_url, pool_size=1)
        try:
            ensure(PostgresStore(engine, machines=registry.machines(), schema=settings.schema), registry)
        finally:
            engine.dispose()

    def _census(self, store: PostgresOutbox, worker: UUID) -> None:
        """Hand back what the database believes we run and nobody here does: its claim's answer was lost on the way."""
        strays = [
            Move(action, ActionStatus.RUNNING, token, ActionStatus.PENDING, attempt_outcome="released")
            for action, token in store.running(worker)
            if token not in self._claims
        ]
        if strays:
            log.warning("%d claimed actions never reached this process; they go back", len(strays))
            store.move(strays)
