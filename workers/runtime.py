"""Running effects in one process: claim what can start now, run it outside any transaction, hand the result to the finisher."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID, uuid4

from fsm_core.delivery.ahead import MOST_IN_A_ROW, Ahead
from fsm_core.delivery.outcome import Released, Result, describe, from_json, unknown
from fsm_core.delivery.ports import Claimed, Move
from fsm_core.errors import FsmError, StoreError
from fsm_core.postgres.crash import Point, reached
from fsm_core.postgres.engine import own_engine
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.types import ActionId, ActionStatus
from workers.bounds import Bound
from workers.effect import Runner
from workers.finisher import Finisher
from workers.isolated import Isolation
from workers.lease import Lease
from workers.pace import Pace
from workers.schedules import see_to
from workers.shards import post
from workers.slots import Slots
from workers.unclaimed import Unclaimed
from workers.watchdog import Sign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fsm_core.registry import Registry
    from workers.settings import Settings

log = logging.getLogger(__name__)

RELIEF = 0.01
"""Seconds after which what was to be done in an instant is helped with by other slots."""

UNCLAIMED_PAUSE = 1.0
"""Seconds without the database before the next message: one that is dropped waits for the reconciler, and more of them would, too."""

AHEAD_PATIENCE = 1.0
"""Seconds that a slot waits for its result to be taken up, where it could go on with what that causes."""

MOST_HANGING = 2
"""With so many threads that nothing can stop, a process is no good any more."""

Key: TypeAlias = tuple[ActionId, UUID]
"""An attempt: an action with its claim. One that hangs here, and the next one of its action, may be in one process."""


class Runtime:
    """The worker's side of the protocol in one process.

    kind: the row's kind, "node" or "child". queues: queue -> slots, as the row says; one with fewer than the process has is
    bounded to them. slots: effects at once. leave: stops the flow of messages, when the process is no good any more. told:
    whether the worker whose child this is was told to stop. Raises StoreError at construction, if the database is not there.
    """

    def __init__(
        self, settings: Settings, registry: Registry, *, kind: str, queues: Mapping[str, int], slots: int,
        leave: Callable[[], None] | None = None, told: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._store = PostgresOutbox(
            own_engine(
                settings.database_url, pool_size=slots + 2, patience=settings.patience.total_seconds()
            ),
            settings.schema,
            cipher=settings.cipher,
        )
        self._draining, self._told = threading.Event(), told
        self._slots = Slots(slots, self._drains)
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="fsm-effect")
        self._pace = Pace()
        self._bounds = {queue: Bound(most) for queue, most in queues.items() if most < slots}
        self._claims_lock = threading.Lock()
        self._claims: Counter[UUID] = Counter()
        self._claimed: dict[str, tuple[int, str, int]] = {}
        self._unclaimed = Unclaimed()
        self._finisher = Finisher(self._store, registry, self._ended)
        self._post = post(settings, registry, self._store, slots)
        self._leave = leave
        self._registry = registry
        self._behind: dict[Key, deque[Claimed]] = {}
        self._aheads: dict[Key, Ahead] = {}
        # A prefork child has one effect at a time: whom would a suspect take along, and what would a hanging one leave to do?
        self._runner = Runner(
            registry, self._put, isolation=Isolation(settings.machines), suspicious=kind != "child",
            most=min(slots, MOST_HANGING), patience=settings.hung, on_hang=self._pass_on, on_stuck=self._replace,
        )  # fmt: skip
        self._lease = Lease(
            settings, kind=kind, queues=queues, known=registry.known(), claimed=lambda: dict(self._claimed),
            on_lost=self._runner.void, census=self._census, at_first=lambda: see_to(settings, registry),
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
        reached(Point.WORKER_AFTER_RECEIVE)
        bound = None if queue is None else self._bounds.get(queue)
        if bound is not None and not self._drains():
            self._handle_bounded(bound, ticket, ids)
            return
        left = list(ids)
        while left and (slots := self._slots.take(len(left))):
            now, left = left[: slots + self._pace.ahead], left[slots + self._pace.ahead :]
            claimed: list[Claimed] | None = None
            try:
                claimed = self._claim(ticket, now)
            except StoreError as error:
                # They stay published under their ticket: the reconciler sends the message again.
                log.warning("nothing could be claimed: %s", error)
                self._draining.wait(UNCLAIMED_PAUSE)
                return
            finally:
                if claimed is None:
                    self._slots.give(slots)
            self._run(claimed, slots)
        self._hand_back((ticket, each) for each in left)

    @property
    def signs(self) -> list[Sign]:
        """What shows that this process makes progress: its lease is kept, and no transition holds up the commits."""
        return [*self._lease.signs, Sign("end of a commit", self._finisher.busy)]

    def drain(self) -> None:
        """Start nothing more: what is not claimed yet goes back, for another worker to take at once."""
        self._draining.set()

    def close(self) -> None:
        """A graceful end: wait for effects, commit what came of them, give the lease back."""
        self._pool.shutdown(wait=True)
        self._runner.stop()
        self._finisher.stop()
        self._lease.stop()
        self._unclaimed.tell(last=True)
        self._post.close()
        self._store.close()

    def _drains(self) -> bool:
        return self._draining.is_set() or self._told()

    def _handle_bounded(self, bound: Bound, ticket: UUID, ids: Sequence[ActionId]) -> None:
        wanted = bound.put(ticket, ids)
        if not wanted:
            return
        slots = self._slots.take(wanted)
        bound.leave(wanted - slots)
        if not slots:
            self._hand_back(bound.rest())
        elif slots == 1:
            self._run_bounded(bound)
        else:
            wait([self._pool.submit(self._run_bounded, bound) for _ in range(slots)])

    def _run_bounded(self, bound: Bound) -> None:
        """A lane of a bounded queue, in one slot of the process: one effect after another, for as long as any waits."""
        try:
            while (batch := bound.next()) is not None:
                self._run_next(bound, *batch)
        except BaseException:
            bound.leave(1)
            raise
        finally:
            self._slots.give(1)

    def _run_next(self, bound: Bound, ticket: UUID, ids: Sequence[ActionId]) -> None:
        if self._drains():
            self._hand_back([*((ticket, each) for each in ids), *bound.rest()])
            return
        try:
            claimed = self._claim(ticket, ids)
        except StoreError as error:
            log.warning("nothing could be claimed: %s", error)
            self._draining.wait(UNCLAIMED_PAUSE)
            return
        self._run_all(deque(claimed), bound.pace)

    def _hand_back(self, waiting: Iterable[tuple[UUID, ActionId]]) -> None:
        """Ids that are published under their tickets, and that nobody here starts any more."""
        published, pending = ActionStatus.PUBLISHED, ActionStatus.PENDING
        moves = [Move(each, published, ticket, pending) for ticket, each in dict.fromkeys(waiting)]
        try:
            if moves:
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
        if claimed:
            reached(Point.WORKER_AFTER_CLAIM)
        if len(claimed) < len(ids):
            self._unclaimed.add(len(ids) - len(claimed))
        for each in claimed:
            count, newest, _ = self._claimed.get(each.queue, (0, "", 1))
            newest = max(newest, each.published_at.isoformat())
            self._claimed[each.queue] = count + 1, newest, 1 + self._pace.ahead
        return claimed

    def _run(self, claimed: Sequence[Claimed], slots: int) -> None:
        """Run them in as many slots as they need: where all of it is done in an instant, one is quicker than handing it around."""
        if not claimed:
            self._slots.give(slots)
            return
        behind, done = deque(claimed), threading.Event()
        instant = len(claimed) * self._pace.average <= RELIEF
        lanes = 1 if instant else min(slots, len(claimed))
        self._slots.give(slots - lanes)
        others = [self._pool.submit(self._run_lane, behind) for _ in range(lanes - 1)]
        relief = self._pool.submit(self._relieve, behind, done) if lanes < len(claimed) else None
        self._run_lane(behind)
        done.set()
        unneeded = [lane for lane in others if lane.cancel()]  # all was done before a thread came to it
        self._slots.give(len(unneeded))
        wait([lane for lane in others if lane not in unneeded])
        if relief is not None and not relief.cancel():
            wait([relief])

    def _relieve(self, behind: deque[Claimed], done: threading.Event) -> None:
        """One of them is not as quick as they are taken for: what is behind it goes to the slots that are free."""
        while not done.wait(RELIEF) and behind:
            if free := self._slots.more(len(behind)):
                for _ in range(free - 1):
                    self._pool.submit(self._run_lane, behind)
                self._run_lane(behind)
                return

    def _run_lane(self, behind: deque[Claimed]) -> None:
        try:
            self._run_all(behind, self._pace)
        finally:
            self._slots.give(1)

    def _run_all(self, behind: deque[Claimed], pace: Pace) -> None:
        """Take one after another, as other lanes may do; before that, what the one before has caused."""
        following: Claimed | None = None
        in_a_row = 0
        while (claimed := following or _first(behind)) is not None:
            began = time.monotonic()
            in_a_row = 0 if following is None else in_a_row + 1
            self._behind[_key(claimed)] = behind
            ahead = self._ahead(claimed, in_a_row)
            try:
                self._start(claimed)
            finally:
                self._behind.pop(_key(claimed), None)
            if claimed.outcome is None:
                pace.learn(time.monotonic() - began)
            following = None if ahead is None else self._following(ahead)

    def _ahead(self, claimed: Claimed, in_a_row: int) -> Ahead | None:
        """Where a result of `claimed` may cause what this slot can go on with."""
        effects = self._registry.effects(claimed.machine, claimed.version)
        if effects is None or not effects.inline or in_a_row == MOST_IN_A_ROW or claimed.outcome is not None:
            return None
        ahead = Ahead(claimed, self._lease.id, uuid4(), hold=partial(self._hold, count=1), drop=self._forget)
        self._aheads[_key(claimed)] = ahead
        return ahead

    def _following(self, ahead: Ahead) -> Claimed | None:
        """What this slot goes on with. A result that never came, or waits for a lock, keeps nobody waiting."""
        came = self._aheads.pop(_key(ahead.claimed), None) is None
        return ahead.wait(AHEAD_PATIENCE) if came else None

    def _put(self, result: Result) -> None:
        takes = not (result.late or self._drains())
        ahead = self._aheads.pop(_key(result.claimed), None) if takes else None
        self._finisher.put(result if ahead is None else replace(result, ahead=ahead))

    def _pass_on(self, hanging: Claimed) -> None:
        """What was claimed ahead, behind an effect that hangs, is for others: it was not started. So is what its failure causes."""
        if ahead := self._aheads.pop(_key(hanging), None):
            ahead.settle(None)
        behind = self._behind.get(_key(hanging))
        with suppress(IndexError):  # its thread may take them, too
            while behind is not None:
                claimed = behind.popleft()
                note = "handed back: the effect before it hangs"
                if claimed.tracked:
                    self._finisher.put(Result(claimed, Released(note, timedelta(0))))
                else:
                    log.error("untracked action %s was lost: the effect before it hangs", claimed.id)

    def _start(self, claimed: Claimed) -> None:
        try:
            if claimed.outcome is None:
                self._runner.run(claimed)
                return
            letter = from_json(claimed.outcome)  # what nobody here can read goes back, for somebody who can
            self._finisher.put(Result(claimed, self._post.deliver(claimed, letter)))
        except FsmError as error:  # nobody here knows its machine, version or action, or has the key
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

    def _replace(self) -> None:
        """Effects that nothing can stop hold threads of this process: its neighbours finish, then it ends, and another is started."""
        log.critical("this process ends: effects hang in it")
        self.drain()
        if self._leave is not None:
            self._leave()
        threading.Thread(target=self._end, name="fsm-end", daemon=True).start()

    def _end(self) -> None:
        try:
            for bound in self._bounds.values():
                self._hand_back(bound.rest())
            self._slots.wait(lost=self._runner.hanging)
            self._finisher.stop()
            self._lease.stop()
            self._unclaimed.tell(last=True)
        finally:
            os._exit(os.EX_SOFTWARE)

    def _census(self, store: PostgresOutbox, worker: UUID) -> None:
        """Hand back what the database believes we run and nobody here does: its claim's answer was lost on the way.

        And the other way round: what runs here and there no longer was cancelled, or is somebody else's.
        """
        self._unclaimed.tell()
        runs = self._runner.runs()
        rows = set(store.running(worker))
        self._runner.void(run for run in runs if (run.job.claimed.id, run.job.claimed.token) not in rows)
        strays = [
            Move(action, ActionStatus.RUNNING, token, ActionStatus.PENDING, attempt_outcome="released")
            for action, token in rows
            if token not in self._claims
        ]
        if strays and (back := store.move(strays)):  # the others have ended since we looked
            log.warning("%d claimed actions never reached this process; they went back", len(back))


def _key(claimed: Claimed) -> Key:
    return claimed.id, claimed.token


def _first(behind: deque[Claimed]) -> Claimed | None:
    with suppress(IndexError):  # other lanes take from it, too
        return behind.popleft()
    return None
