"""Retention on the tables: what a store on PostgreSQL deletes in slices, at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_core.delivery.retention import Pruned
from fsm_core.memory.tables import OPEN, ActionRow, MachineRow, Tables
from fsm_core.types import ActionStatus, MachineStatus
from fsm_core.unit import Rebased

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from fsm_core.delivery.retention import Retention


class Pruner:
    """One call of `prune`, with the lock held."""

    def __init__(self, tables: Tables, retention: Retention, *, dry_run: bool) -> None:
        self._tables = tables
        self._now = tables.clock.now()
        self._details, self._whole = (
            None if age is None else self._now - age for age in (retention.first, retention.whole)
        )
        self._dry_run = dry_run

    def run(self, *, live: bool) -> Pruned:
        """Expired, details, whole machines; then, with `live`, the logs of those that live."""
        total = self._expired()
        rows = list(self._tables.machines.values())
        details = [r for r in rows if not r.pruned and self._rests(r, self._details)]
        gone = {r.id for r in rows if r.pruned} | {r.id for r in details}
        kept = {r.parent for r in rows if r.id not in gone}
        whole = [r for r in rows if self._rests(r, self._whole) and r.id not in kept]
        cut = [r for r in rows if live and self._is_cut(r)]
        if self._dry_run:
            counted = Pruned(machines=len(details), forgotten=len(whole), cut=len(cut))
            return total.plus(counted)
        for row in details:
            total = total.plus(self._prune(row))
        for row in whole:
            total = total.plus(self._forget(row))
        for row in rows if live else ():
            total = total.plus(self._cut_live(row))
        return total

    def _rests(self, row: MachineRow, before: datetime | None) -> bool:
        """Whether it ended before then, and nothing of it is open."""
        if before is None or row.ended_at is None or row.ended_at >= before:
            return False
        return not any(action.status in OPEN for action in self._tables.of_machine[row.id])

    def _prune(self, row: MachineRow) -> Pruned:
        failed = [a for a in self._tables.of_machine[row.id] if a.status is ActionStatus.FAILED]
        last = max(failed, key=lambda a: (a.finished_at, a.id), default=None)
        done = self._cut(row, row.seq, lambda action: action is not last)
        held = len(self._tables.inbox.pop(row.id, ()))
        row.pruned, row.rev = True, row.rev + 1
        return done._replace(machines=1, held=held)

    def _forget(self, row: MachineRow) -> Pruned:
        tables, actions = self._tables, self._tables.of_machine.pop(row.id, [])
        events = len(tables.events.pop(row.id, ()))
        attempts = sum(len(tables.attempts.pop(action.id, ())) for action in actions)
        for action in actions:
            del tables.actions[action.id]
        self._erase(row)
        return Pruned(forgotten=1, events=events, actions=len(actions), attempts=attempts)

    def _erase(self, row: MachineRow) -> None:
        tables = self._tables
        for rows in (tables.inbox, tables.snapshots):
            rows.pop(row.id, None)
        tables.dedup = {key: known for key, known in tables.dedup.items() if key[0] != row.id}
        del tables.addresses[row.fsm, row.key], tables.machines[row.id]

    def _base(self, row: MachineRow) -> int | None:
        """Where the log of a machine that lives can be cut; None: nowhere, or nothing of it is old."""
        events, before = self._tables.events[row.id], self._details
        old = {each.event.seq for each in events if before is not None and each.occurred_at < before}
        if row.status is not MachineStatus.LIVE or row.seq == 0 or not old:
            return None
        if row.seq in old:
            return row.seq
        return max((now.seq for now in self._tables.snapshots[row.id] if now.seq in old), default=-1)

    def _is_cut(self, row: MachineRow) -> bool:
        base = self._base(row)
        return base is not None and self._tables.events[row.id][0].event.seq < base

    def _cut_live(self, row: MachineRow) -> Pruned:
        base, cut = self._base(row), self._is_cut(row)
        if base is None:
            return Pruned()
        done = self._cut(
            row, base, lambda action: action.status is not ActionStatus.FAILED and action.name != "Spawn"
        )
        return done._replace(cut=int(cut))

    def _cut(self, row: MachineRow, base: int, goes: Callable[[ActionRow], bool]) -> Pruned:
        """What it had before event `base`; a replay can begin at its last event, if it cannot begin after `base` already."""
        tables = self._tables
        if row.seq > 0 and (row.seq == base or all(now.seq <= base for now in tables.snapshots[row.id])):
            tables.snapshots[row.id].append(
                Rebased(row.seq, row.version, row.state_name, row.state_name, row.state)
            )
        events = tables.events[row.id]
        tables.events[row.id] = [each for each in events if each.event.seq >= base]
        tables.snapshots[row.id] = [now for now in tables.snapshots[row.id] if now.seq >= base]
        gone = [a for a in tables.of_machine[row.id] if a.id.seq < base and self._is_old(a) and goes(a)]
        attempts = 0
        for action in gone:
            tables.of_machine[row.id].remove(action)
            del tables.actions[action.id]
            attempts += len(tables.attempts.pop(action.id, ()))
        return Pruned(events=len(events) - len(tables.events[row.id]), actions=len(gone), attempts=attempts)

    def _is_old(self, action: ActionRow) -> bool:
        done, before = action.finished_at, self._details
        return action.status not in OPEN and done is not None and before is not None and done < before

    def _expired(self) -> Pruned:
        tables, held, unborn = self._tables, 0, 0
        for row in list(tables.machines.values()):
            left = tables.waiting(row.id)
            over = len(tables.inbox[row.id]) - len(left)
            held += over
            if self._dry_run or not over:
                continue
            tables.inbox[row.id], row.rev = left, row.rev + 1
            if row.status is MachineStatus.UNBORN and not left:
                unborn += 1
                self._erase(row)
        return Pruned(held=held, unborn=unborn)
