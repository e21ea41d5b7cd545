"""Operating, in memory: repairing, ending, limiting, pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fsm_core import audit
from fsm_core.errors import MachineEnded, NotRetried, WrongStatus
from fsm_core.inputs import checked_names, checked_note, name_of
from fsm_core.limits import SECOND, Limit
from fsm_core.memory import logs
from fsm_core.memory.looking import Looking
from fsm_core.memory.prune import Pruner
from fsm_core.memory.tables import OPEN
from fsm_core.memory.upcasts import upcasts
from fsm_core.types import ActionId, ActionStatus, Key, MachineStatus, Spawn, key_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from fsm_core.delivery.retention import Pruned, Retention
    from fsm_core.delivery.upcasting import Upcast
    from fsm_core.machine import Machine
    from fsm_core.memory.tables import ActionRow
    from fsm_core.registry import AnyMachine

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")


class Operating(Looking):
    """The verbs of an operator."""

    def retry(self, action_ids: Sequence[ActionId]) -> list[ActionId]:
        """As `PostgresStore.retry`."""
        with self._tables.lock:
            if len(action_ids) == 1:
                _must_be(only := self._action(action_ids[0]), (ActionStatus.FAILED,))
                if only.name == Spawn.__name__:
                    raise NotRetried(str(only.id))
            found = [self._tables.actions[i] for i in dict.fromkeys(action_ids) if i in self._tables.actions]
            failed = [r for r in found if r.status is ActionStatus.FAILED and r.name != Spawn.__name__]
            for row in failed:
                known = {attempt.number for attempt in self._tables.attempts[row.id].values()}
                if row.outcome is None and row.attempt not in known:
                    self._tables.record_attempt(row, "error", error=row.error)
                free = row.lane is None and row.limit_name is None
                row.status = ActionStatus.PENDING if free else ActionStatus.BLOCKED
                row.budget_from, row.run_at = row.attempt, self.clock.now()
                row.finished_at, row.note = None, "retried by hand"
            return [row.id for row in failed]

    def restore(self, machine: Machine[S, E, A], key: Key) -> list[ActionId]:
        """As `PostgresStore.restore`."""
        self.registry.add(machine)
        with self._tables.lock:
            row = self._row(machine.name, key_text(key))
            return logs.put_back(self._tables, row, audit.lost(logs.log(self._tables, row), self.registry))

    def upcast(
        self,
        machine: Machine[S, E, A],
        *,
        dry_run: bool = False,
        every: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Upcast:
        """As `PostgresStore.upcast`; all are one batch."""
        self.registry.add(machine)
        with self._tables.lock:
            done = upcasts(self._tables, self.registry, machine, self._limits, dry_run=dry_run, every=every)
        if progress is not None:
            progress(done.looked)
        return done

    def cancel(self, machine: AnyMachine | str, key: Key, note: str = "cancelled by hand") -> int:
        """As `PostgresStore.cancel`."""
        checked_note(note)
        with self._tables.lock:
            row = self._row(name_of(machine), key_text(key))
            if row.status is not MachineStatus.LIVE:
                raise MachineEnded(row.fsm, row.key, row.status)
            return self._tables.end(row, note)

    def cancel_action(self, action_id: ActionId, note: str = "cancelled by hand") -> None:
        """As `PostgresStore.cancel_action`."""
        checked_note(note)
        with self._tables.lock:
            row = self._action(action_id)
            _must_be(row, (*OPEN, ActionStatus.FAILED))
            self._tables.cancel(row, note)

    def limit(
        self,
        name: str,
        *,
        max_running: int | None = None,
        rate: float | None = None,
        per: timedelta = SECOND,
        burst: int | None = None,
    ) -> Limit:
        """As `PostgresStore.limit`."""
        limit = Limit(name, max_running, rate, per, burst)
        with self._tables.lock:
            self._tables.limits[name] = limit
        return limit

    def limits(self) -> list[Limit]:
        """As `PostgresStore.limits`."""
        with self._tables.lock:
            return sorted(self._tables.limits.values(), key=lambda limit: limit.name)

    def remove_limit(self, name: str) -> bool:
        """As `PostgresStore.remove_limit`."""
        checked_names(limit=name)
        with self._tables.lock:
            buckets = self._tables.buckets
            self._tables.buckets = {of: bucket for of, bucket in buckets.items() if of[0] != name}
            return self._tables.limits.pop(name, None) is not None

    def prune(self, retention: Retention, *, live: bool = False, dry_run: bool = False) -> Pruned:
        """As `PostgresStore.prune`, by the store's clock."""
        with self._tables.lock:
            return Pruner(self._tables, retention, dry_run=dry_run).run(live=live)


def _must_be(row: ActionRow, wanted: tuple[ActionStatus, ...]) -> None:
    if row.status not in wanted:
        raise WrongStatus(str(row.id), row.status, wanted)
