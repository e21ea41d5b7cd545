"""Running what is due, inline: the relay's and the worker's part of the protocol in one loop."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from fsm_core.delivery.finish import Finished, finish, finish_alone, late_json
from fsm_core.delivery.outcome import Completed, Released, Result, from_json
from fsm_core.errors import UnknownMachine
from fsm_core.memory.attempt import Runner
from fsm_core.memory.outbox import MemoryOutbox
from fsm_core.types import ActionStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from fsm_core.delivery.ports import Claimed
    from fsm_core.memory.tables import ActionRow, MachineRow, Tables
    from fsm_core.registry import Registry
    from fsm_core.types import ActionId

BATCH = 100

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drained:
    """What one `drain` did.

    ran: actions that it took. Of these: completed; failed for good; retried: put back by their policy; released: put
    back, because no effect here runs them; late: their result came too late. bugs: what transitions raised that took a
    result; their actions stand as failed, and `retry` applies the kept result.
    """

    ran: int = 0
    completed: int = 0
    failed: int = 0
    retried: int = 0
    released: int = 0
    late: int = 0
    bugs: tuple[BaseException, ...] = ()


class Drain:
    """One worker's life, from its first claim to its last."""

    def __init__(self, tables: Tables, registry: Registry) -> None:
        self._clock, self._tables = tables.clock, tables
        self._registry = registry
        self._outbox = MemoryOutbox(tables)
        self._worker = uuid4()
        self._counts: Counter[str] = Counter()
        self._released: set[ActionId] = set()
        self._bugs: list[BaseException] = []

    def run(self, limit: int, *, jump: bool) -> Drained:
        """Take at most `limit` actions, until none is due. `jump`: where none is, go on to when the next one is."""
        self._outbox.enlist(self._worker)
        try:
            with Runner(self._registry, self._clock) as runner:
                self._outbox.requeue_dead()
                while (room := limit - self._counts["ran"]) > 0:
                    ticket = uuid4()
                    self._outbox.admit()
                    ids = self._outbox.publish(min(room, BATCH), ticket, self._served)
                    if ids:
                        self._batch(runner, ids, ticket)
                    elif not (jump and self._jumped()):
                        break
        finally:
            self._outbox.retire(self._worker)
        return Drained(**self._counts, bugs=tuple(self._bugs))

    def _jumped(self) -> bool:
        due = self._outbox.next_due(self._served)
        if due is not None:
            self._clock.reach(due)
        return due is not None

    def _served(self, row: ActionRow) -> bool:
        """Whether this process may take the row: one that nobody serves is not touched at all."""
        if row.outcome is None:
            return row.id not in self._released and self._registry.effects(row.fsm, row.version) is not None
        target = from_json(row.outcome).target
        concerned: ActionRow | MachineRow | None = row
        if target is not None:
            concerned = self._tables.machines.get(target.id) if target.id is not None else None
            if target.machine is not None and target.key is not None:
                concerned = self._tables.find(target.machine, target.key)
        try:
            if concerned is not None:  # else it is for all children, or for nobody yet: no code is asked for
                self._registry.reader(concerned.fsm, concerned.version)
        except UnknownMachine:
            return False
        return True

    def _batch(self, runner: Runner, ids: Sequence[ActionId], ticket: UUID) -> None:
        try:
            for action in ids:
                for claimed in self._outbox.claim(self._worker, [action], ticket, uuid4()):
                    self._counts["ran"] += 1
                    self._one(runner, claimed)
        finally:
            self._outbox.unpublish(ids, ticket)

    def _one(self, runner: Runner, claimed: Claimed) -> None:
        if claimed.outcome is not None:
            self._finish(Result(claimed, Completed()))
            return
        outcome = runner.run(claimed)
        if not claimed.tracked:
            self._counts["completed" if isinstance(outcome, Completed) else "failed"] += 1
            return
        if isinstance(outcome, Released):
            self._released.add(claimed.id)
        clocked = runner.ended_by_the_clock(claimed)
        if clocked is not None:
            self._finish(Result(claimed, clocked))
        self._finish(Result(claimed, outcome, late=clocked is not None))

    def _finish(self, result: Result) -> None:
        finished = finish(self._outbox, self._registry, [result])
        self._account(finished)
        for alone in (*finished.stuck, *finished.alone):
            self._account(finish_alone(self._outbox, self._registry, alone))

    def _account(self, finished: Finished) -> None:
        for result in finished.done:
            self._counts[self._kind(result)] += 1
        for result in finished.void:
            self._counts["late"] += 1
            claimed = result.claimed
            self._outbox.late(claimed.id, claimed.token, late_json(result, self._registry))
        for result, bug in finished.broken:
            log.error("the result of %s could not be applied", result.claimed.id, exc_info=bug)
            self._bugs.append(bug)
            self._counts["failed"] += 1
        for held, bug in finished.refused:
            log.error("a held %s could not be applied, it is held on", held.name, exc_info=bug)
            self._bugs.append(bug)

    def _kind(self, result: Result) -> str:
        status = self._outbox.status(result.claimed.id)
        if status in (ActionStatus.COMPLETED, ActionStatus.FAILED):
            return status.value
        return "released" if isinstance(result.outcome, Released) else "retried"
