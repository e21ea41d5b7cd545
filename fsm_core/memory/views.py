"""Rows as the values that the store's verbs answer."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from fsm_core.records import ActionRecord, AttemptRecord, HistoryEntry, MachineRecord
from fsm_core.types import ActionStatus

if TYPE_CHECKING:
    from fsm_core.memory.tables import ActionRow, MachineRow, Tables


def machine(tables: Tables, row: MachineRow) -> MachineRecord:
    """A machine as JSON."""
    return MachineRecord(
        row.fsm, row.key, row.id, row.version, row.status, row.state_name, msgspec.json.decode(row.state or "{}"), row.seq,
        len(tables.inbox[row.id]), row.created_at, row.updated_at, row.ended_at,
    )  # fmt: skip


def action(tables: Tables, row: ActionRow) -> ActionRecord:
    """An action with its attempts; the last one, where no row of its own tells of it, is made from the action's."""
    known = [
        AttemptRecord(a.number, a.outcome, a.started_at, a.ended_at, message(a.error))
        for a in tables.attempts[row.id].values()
    ]
    shown = row.status in (ActionStatus.RUNNING, ActionStatus.COMPLETED, ActionStatus.FAILED)
    missing = row.attempt > 0 and not any(a.number == row.attempt for a in known)
    if row.started_at is not None and shown and missing:
        ended = None if row.status is ActionStatus.RUNNING else row.status.value
        last = AttemptRecord(row.attempt, ended, row.started_at, row.finished_at, message(row.error))
        known.append(last)
    return ActionRecord(
        row.id, row.name, msgspec.json.decode(row.payload), row.status, row.tracked, row.queue, row.attempt,
        row.created_at, row.run_at, row.finished_at, message(row.error), row.note, tuple(known), row.fsm, row.key,
    )  # fmt: skip


def history(tables: Tables, row: MachineRow) -> list[HistoryEntry]:
    """A machine's log, each event with the actions that it caused."""
    caused: dict[int, list[ActionRecord]] = defaultdict(list)
    for made in tables.of_machine[row.id]:
        caused[made.id.seq].append(action(tables, made))
    return [
        HistoryEntry(
            seq=logged.event.seq, name=logged.event.name, payload=msgspec.json.decode(logged.event.payload),
            outcome=logged.event.outcome, source=logged.event.source, occurred_at=logged.occurred_at,
            reason=logged.event.reason, actions=tuple(caused[logged.event.seq]),
        )
        for logged in tables.events[row.id]
    ]  # fmt: skip


def message(error: str | None) -> str | None:
    """What stands in an error column."""
    if error is None:
        return None
    found: str | None = msgspec.json.decode(error).get("message")
    return found
