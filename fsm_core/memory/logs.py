"""Whole records of machines, for `fsm_core.audit`, and what it puts back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_core.audit import Base, Entry, Log, Row
from fsm_core.memory.tables import ActionRow, EventRow, MachineRow, Tables
from fsm_core.types import ActionId, ActionStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsm_core.audit import Lost


def log(tables: Tables, row: MachineRow) -> Log:
    """Everything that is recorded of a machine."""
    rows = sorted(tables.of_machine[row.id], key=lambda action: action.id)
    entries = map(_entry, tables.events[row.id])
    kept = {
        now.seq: Base(now.seq, now.version, now.state_name, now.state) for now in tables.snapshots[row.id]
    }
    held = len(tables.inbox[row.id])
    return Log(tables.seen(row), tuple(entries), tuple(sorted(kept.values())), tuple(map(_row, rows)), held)


def put_back(tables: Tables, row: MachineRow, found: Sequence[Lost]) -> list[ActionId]:
    """Write rows of the outbox again, each in its place; what came of them is in doubt."""
    made = [_restored(tables, row, lost) for lost in found]
    tables.of_machine[row.id] += made
    # A lane takes its rows in the order of the table, which is that of their events.
    rows = sorted([*tables.actions.values(), *made], key=lambda action: action.created_at)
    tables.actions = {action.id: action for action in rows}
    return sorted(action.id for action in made)


def _restored(tables: Tables, machine: MachineRow, lost: Lost) -> ActionRow:
    new = lost.row
    return ActionRow(
        ActionId(machine.id, new.seq, new.idx), machine.fsm, machine.key, new.name, new.version, new.payload, new.tracked,
        ActionStatus(new.status), new.queue, new.priority, new.lane, None, None, lost.created_at, tables.clock.now(), attempt=1,
        in_doubt=True, note="restored by hand", limit_name=new.limit_name, limit_key=new.limit_key,
    )  # fmt: skip


def _entry(row: EventRow) -> Entry:
    event = row.event
    return Entry(
        event.seq,
        event.name,
        event.payload,
        event.version,
        event.outcome,
        event.source,
        event.reason,
        row.occurred_at,
    )


def _row(row: ActionRow) -> Row:
    return Row(
        row.id.seq, row.id.idx, row.name, row.version, row.payload, row.tracked, row.status, row.queue, row.priority, row.lane,
        row.timer, row.outcome, row.limit_name, row.limit_key,
    )  # fmt: skip
