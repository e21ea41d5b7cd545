"""Committing results in groups as effects finish: whatever is ready goes together, so nobody waits for a slow neighbour."""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from fsm_core.delivery.applying import kept
from fsm_core.delivery.finish import Finished, finish, finish_alone, late_json
from fsm_core.delivery.outcome import Completed, GaveUp, Result
from fsm_core.delivery.ports import Move
from fsm_core.errors import DatabaseUnavailable, FsmError, PoolExhausted, StoreError
from fsm_core.postgres.crash import Point, reached
from fsm_core.types import ActionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsm_core.delivery.ports import WorkerStore
    from fsm_core.registry import Registry

log = logging.getLogger(__name__)

MOST = 200
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 2.0
PATIENCE_AT_END = 10.0


class Finisher:
    """A thread that takes results and commits them. on_end: told of each result that needs nothing more.

    No timer: what becomes ready while a group commits is the next group, so an idle worker adds no latency.
    """

    def __init__(
        self, store: WorkerStore, registry: Registry, on_end: Callable[[Result], None] = lambda _: None
    ) -> None:
        self._store = store
        self._registry = registry
        self._on_end = on_end
        self._ready: queue.Queue[Result | None] = queue.Queue()
        self._stuck: list[tuple[float, int, float, Result]] = []
        self._order = itertools.count()
        self._open: dict[int, Result] = {}
        self._empty = threading.Condition()
        self._stopping = False
        self._began: float | None = None
        self._thread = threading.Thread(target=self._loop, name="fsm-finisher", daemon=True)

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    def put(self, result: Result) -> None:
        """Take one result. Never blocks."""
        reached(Point.WORKER_AFTER_EFFECT)
        with self._empty:
            self._open[id(result)] = result
        self._ready.put(result)

    def busy(self) -> float:
        """Seconds for which it has been at one group or result; 0 while it waits for some."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put is committed, at most `timeout` seconds. Returns whether it is."""
        with self._empty:
            return self._empty.wait_for(lambda: not self._open, timeout)

    def stop(self) -> None:
        """Commit what is left; a result whose machine stays locked is kept with its action, for somebody to apply."""
        self.flush(PATIENCE_AT_END)
        self._stopping = True
        self._ready.put(None)
        self._thread.join(timeout=PATIENCE_AT_END)
        self._keep(list(self._open.values()))

    def _loop(self) -> None:
        while not self._stopping:
            group = self._group()
            self._began = time.monotonic()
            self._commit(group)
            self._began = time.monotonic()
            self._retry_stuck()
            self._began = None

    def _commit(self, group: Sequence[Result]) -> None:
        if not group:
            return
        try:
            finished = finish(self._store, self._registry, group)
            reached(Point.WORKER_AFTER_FINISH)
        except StoreError as error:
            # Any part of the group may be committed: trying it again finds that by its token.
            log.warning("results wait for the database: %s", error)
            finished = Finished(stuck=list(group))
            time.sleep(FIRST_PAUSE)
        except Exception:
            log.exception("a group of results could not be committed; each is tried alone")
            finished = Finished(stuck=list(group))
        finally:
            for result in group:
                if result.ahead is not None:
                    result.ahead.settle(None)  # whatever became of it: its slot waits for an answer
        self._account(finished)

    def _group(self) -> list[Result]:
        """What is ready now, at most 200; waits for the first one, or until a stuck one is due."""
        pause = max(self._stuck[0][0] - time.monotonic(), 0.001) if self._stuck else None
        group: list[Result] = []
        try:
            first = self._ready.get(timeout=pause)
            while first is not None:
                group.append(first)
                if len(group) == MOST:
                    break
                first = self._ready.get_nowait()
        except queue.Empty:
            pass
        return group

    def _retry_stuck(self) -> None:
        """Try the first that is due: only one, as it may wait for a lock, and neighbours must not."""
        if not self._stuck or self._stuck[0][0] > time.monotonic():
            return
        _, _, pause, result = heapq.heappop(self._stuck)
        try:
            finished = finish_alone(self._store, self._registry, result)
        except StoreError as error:
            log.warning("the result of %s waits for the database: %s", result.claimed.id, error)
            finished = Finished(stuck=[result])
        except Exception:
            log.exception("the result of %s could not be committed", result.claimed.id)
            finished = Finished(stuck=[result])
        self._account(finished, pause)

    def _later(self, result: Result, pause: float) -> None:
        longer = min(max(pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        heapq.heappush(self._stuck, (time.monotonic() + pause, next(self._order), longer, result))

    def _account(self, finished: Finished, pause: float = FIRST_PAUSE) -> None:
        for result in finished.stuck:
            self._later(result, pause)
        for result in finished.alone:
            self._later(result, 0.0)
        for result, bug in finished.broken:
            claimed = result.claimed
            log.error(
                "the result of %s.%s (%s) could not be applied to its machine; it is kept: fsm retry %s",
                *(claimed.machine, claimed.action, claimed.id, claimed.id), exc_info=bug,
            )  # fmt: skip
            self._ended(result)
        for held, bug in finished.refused:
            log.error("a held %s could not be applied, it is held on", held.name, exc_info=bug)
        for result in finished.void:
            if self._late(result):
                self._ended(result)
            else:
                self._later(result, pause)
        for result in finished.done:
            self._ended(result)

    def _late(self, result: Result) -> bool:
        """Record a void result with its attempt. Returns False if the database is away: then later."""
        claimed = result.claimed
        log.warning(
            "the result of %s.%s (%s) came too late: its claim is void",
            claimed.machine,
            claimed.action,
            claimed.id,
        )
        try:
            if claimed.outcome is None:
                self._store.late(claimed.id, claimed.token, late_json(result, self._registry))
        except (DatabaseUnavailable, PoolExhausted):
            return False
        except Exception:
            log.exception("the late result of %s could not be recorded", claimed.id)
        return True

    def _ended(self, result: Result) -> None:
        self._on_end(result)
        with self._empty:
            del self._open[id(result)]
            self._empty.notify_all()

    def _keep(self, results: Sequence[Result]) -> None:
        """At the end: results that could not be committed are stored with their actions and applied by somebody else."""
        moves = [move for result in results if (move := self._as_kept(result)) is not None]
        try:
            if moves:
                self._store.move(moves)
        except FsmError as error:
            log.warning(
                "%d results are lost with this process, their effects run again: %s", len(moves), error
            )

    def _as_kept(self, result: Result) -> Move | None:
        """None: there is nothing to keep. A failure is kept, too: an effect that said so must not run again."""
        claimed = result.claimed
        if result.late or claimed.outcome is not None or not isinstance(result.outcome, Completed | GaveUp):
            return None
        try:
            outcome = kept(self._registry, result)
        except Exception:
            log.exception("the result of %s is lost with this process", claimed.id)
            return None
        running, pending = ActionStatus.RUNNING, ActionStatus.PENDING
        return Move(claimed.id, running, claimed.token, pending, outcome=outcome, note="to be applied")
