"""`upcast` in memory: every machine of one name, under the tables' lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_core.delivery.upcasting import OpenAction, Upcast, is_due, upcast
from fsm_core.memory.tables import OPEN
from fsm_core.types import MachineStatus

if TYPE_CHECKING:
    from fsm_core.memory.tables import MachineRow, Tables
    from fsm_core.payload import Limits
    from fsm_core.registry import AnyMachine, Registry


def upcasts(
    tables: Tables, registry: Registry, machine: AnyMachine, limits: Limits, *, dry_run: bool, every: bool
) -> Upcast:
    """Upcast all of them. Called with the tables' lock held."""
    if machine.version == 1:
        return Upcast()
    rows = sorted(
        (row for row in tables.machines.values() if row.fsm == machine.name), key=lambda row: row.key
    )
    live = [row for row in rows if row.status is MachineStatus.LIVE]
    due = [row for row in live if is_due(registry, machine, row.version, every=every)]
    done = Upcast(looked=len(rows), older=len(due))
    for row in due:
        done = done.plus(_one(tables, machine, row, limits, dry_run=dry_run))
    return done


def _one(tables: Tables, machine: AnyMachine, row: MachineRow, limits: Limits, *, dry_run: bool) -> Upcast:
    actions = [
        OpenAction(a.name, a.version, a.payload, a.outcome)
        for a in tables.of_machine[row.id]
        if a.status in OPEN
    ]
    unit, unread = upcast(machine, tables.seen(row), tables.inbox[row.id], actions, limits)
    if unit is None:
        return Upcast(unreadable=1, unread=tuple(unread))
    if not (dry_run or tables.write(unit)):
        return Upcast(busy=1)  # its own upcaster has advanced it
    return Upcast(written=1)
