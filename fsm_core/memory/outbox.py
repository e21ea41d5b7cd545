"""The outbox in memory: delivery's `WorkerStore`, and of its `RelayStore` what `drain` asks for."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from fsm_core.delivery.ports import Claimed, Move
from fsm_core.memory import admission
from fsm_core.types import ActionId, ActionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from fsm_core.births import Address
    from fsm_core.delivery.ports import Deciding
    from fsm_core.memory.tables import ActionRow, Tables
    from fsm_core.unit import Seen, Unit

FINISHED = (ActionStatus.COMPLETED, ActionStatus.FAILED, ActionStatus.CANCELLED)
LOST_FIRST, LOST_MOST = timedelta(seconds=0.25), timedelta(seconds=60)


class MemoryOutbox:
    """The actions of a `MemoryStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    # A worker's side

    def claim(self, worker: UUID, ids: Sequence[ActionId], ticket: UUID, claim: UUID) -> list[Claimed]:
        """See `WorkerStore.claim`. An untracked action is completed by it: at most once."""
        with self._tables.lock:
            rows = [self._tables.actions[i] for i in ids]
            held = [r for r in rows if r.status is ActionStatus.PUBLISHED and r.token == ticket]
            return [self._claimed(row, worker, claim) for row in held]

    def move(self, moves: Sequence[Move]) -> set[ActionId]:
        """See `WorkerStore.move`."""
        with self._tables.lock:
            return {move.id for move in moves if self._moved(move)}

    def read(self, machines: Sequence[UUID]) -> dict[UUID, Seen]:
        """See `WorkerStore.read`."""
        with self._tables.lock:
            rows = self._tables.machines
            return {machine: self._tables.seen(rows[machine]) for machine in machines if machine in rows}

    def write(self, units: Sequence[Unit]) -> set[int]:
        """See `WorkerStore.write`."""
        with self._tables.lock:
            return {position for position, unit in enumerate(units) if self._tables.write(unit)}

    def write_alone(self, machine: UUID, decide: Deciding) -> bool:
        """See `WorkerStore.write_alone`."""
        tables = self._tables
        with tables.lock:
            seen, held = tables.seen(tables.machines[machine]), tables.waiting(machine)
            return tables.write(tables.decided(partial(decide, seen, held, offer=True)))

    def locate(self, addresses: Sequence[Address]) -> dict[Address, UUID]:
        """See `WorkerStore.locate`."""
        with self._tables.lock:
            known = self._tables.addresses
            rows = self._tables.machines
            return {a: known[a] for a in addresses if a in known and rows[known[a]].state}

    def cancel_children(self, action: ActionId, note: str) -> bool:
        """See `WorkerStore.cancel_children`."""
        with self._tables.lock:
            for child in self._tables.children(action.machine_id, action):
                self._tables.end(child, note)
            return True

    def mine(self, ids: Sequence[ActionId], tokens: Sequence[UUID]) -> dict[ActionId, ActionStatus]:
        """See `WorkerStore.mine`."""
        with self._tables.lock:
            rows = [(self._tables.actions[i], token) for i, token in zip(ids, tokens, strict=True)]
            return {row.id: row.status for row, token in rows if row.token == token}

    def late(self, action: ActionId, token: UUID, result: str) -> None:
        """See `WorkerStore.late`: kept with the attempt that has ended, or with the one that the action ended under."""
        with self._tables.lock:
            row, attempts = self._tables.actions[action], self._tables.attempts[action]
            if token in attempts:
                attempts[token].late = result
            elif row.token == token and row.status in (ActionStatus.CANCELLED, ActionStatus.FAILED):
                self._tables.record_attempt(row, "ignored", late=result)

    # A relay's side

    def admit(self) -> None:
        """See `RelayStore.admit`."""
        with self._tables.lock:
            admission.admit(self._tables)

    def publish(self, limit: int, ticket: UUID, served: Callable[[ActionRow], bool]) -> list[ActionId]:
        """Mark up to `limit` due rows that are `served` as published under `ticket`, the most urgent first.

        No more of a queue than its limit allows.
        """
        with self._tables.lock:
            now = self._tables.clock.now()
            due = [row for row in self._pending(served) if row.run_at <= now]
            taken: list[ActionRow] = []
            gates = {queue: admission.of_queue(self._tables, queue) for queue in {row.queue for row in due}}
            for row in sorted(due, key=lambda row: (row.priority, row.run_at)):
                gate = gates[row.queue]
                if len(taken) < limit and (gate is None or gate.room):
                    row.status, row.token, row.published_at = ActionStatus.PUBLISHED, ticket, now
                    taken.append(row)
                    if gate is not None:
                        gate.take()
            return [row.id for row in taken]

    def unpublish(self, ids: Sequence[ActionId], ticket: UUID) -> None:
        """Take the mark back from what was not claimed; no attempt was made."""
        with self._tables.lock:
            for row in (self._tables.actions[i] for i in ids):
                if row.status is ActionStatus.PUBLISHED and row.token == ticket:
                    row.status = ActionStatus.PENDING

    def next_due(self, served: Callable[[ActionRow], bool]) -> datetime | None:
        """When time alone lets the next row that is `served` be published; None: none waits for that."""
        with self._tables.lock:
            return min((*self._due(served), *admission.opens(self._tables, served)), default=None)

    def requeue_dead(self) -> int:
        """Put back what workers that are gone were running, its outcome in doubt; returns how many."""
        with self._tables.lock:
            lost = [
                row
                for row in self._tables.actions.values()
                if row.status is ActionStatus.RUNNING and row.worker_id not in self._tables.alive
            ]
            for row in lost:
                self._tables.record_attempt(row, "lost")
                # No jitter, unlike the relay's: one process makes no storm, and a test sees the same times again.
                delay = min(LOST_FIRST * 2 ** min(row.lost, 10), LOST_MOST)
                row.status, row.run_at = _again(row), self._tables.clock.now() + delay
                row.lost, row.in_doubt, row.note = row.lost + 1, True, "its worker was lost"
            return len(lost)

    def status(self, action: ActionId) -> ActionStatus:
        """Where the action stands."""
        with self._tables.lock:
            return self._tables.actions[action].status

    def enlist(self, worker: UUID) -> None:
        """Say that a worker is there."""
        with self._tables.lock:
            self._tables.alive.add(worker)

    def retire(self, worker: UUID) -> None:
        """Say that it is gone; what it still runs is lost."""
        with self._tables.lock:
            self._tables.alive.discard(worker)

    def _pending(self, served: Callable[[ActionRow], bool]) -> list[ActionRow]:
        return [r for r in self._tables.actions.values() if r.status is ActionStatus.PENDING and served(r)]

    def _due(self, served: Callable[[ActionRow], bool]) -> Iterator[datetime]:
        for row in self._pending(served):
            gate = admission.of_queue(self._tables, row.queue)
            at = row.run_at if gate is None else gate.opens()
            if at is not None:
                yield max(at, row.run_at)

    def _claimed(self, row: ActionRow, worker: UUID, claim: UUID) -> Claimed:
        now, token, started = self._tables.clock.now(), row.token, None
        if row.outcome is None:
            token, started = claim, now
            row.token, row.worker_id, row.started_at = claim, worker, now
            row.attempt, row.note = row.attempt + 1, None
            row.status = ActionStatus.RUNNING if row.tracked else ActionStatus.COMPLETED
            row.finished_at = None if row.tracked else now
        return Claimed(
            row.id, token or claim, row.fsm, row.key, row.version, row.name, row.payload, row.tracked, row.queue, row.attempt,
            row.budget_from, row.lost, row.in_doubt, row.outcome, row.published_at or now, started, row.created_at,
        )  # fmt: skip

    def _moved(self, move: Move) -> bool:
        row, now = self._tables.actions[move.id], self._tables.clock.now()
        if row.status is not move.want or row.token != move.mine:
            return False
        if move.attempt_outcome is not None:
            self._tables.record_attempt(row, move.attempt_outcome, error=move.error)
        retried = move.to is ActionStatus.PENDING and move.attempt_outcome in ("error", "timed_out")
        row.status = _again(row) if retried else move.to
        row.attempt, row.note = row.attempt + move.step, move.note
        row.outcome = row.outcome if move.outcome is None else move.outcome
        row.error = row.error if move.error is None else move.error
        row.in_doubt = row.in_doubt if move.in_doubt is None else move.in_doubt
        row.run_at = row.run_at if move.delay is None else now + move.delay
        row.finished_at = now if move.to in FINISHED else None
        return True


def _again(row: ActionRow) -> ActionStatus:
    """Where another attempt begins: what has a limit goes through admission again."""
    return ActionStatus.PENDING if row.limit_name is None else ActionStatus.BLOCKED
