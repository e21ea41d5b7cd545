"""`upcast` in memory: every machine of one name, under the tables' lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_core.delivery.upcasting import OpenAction, Upcast, is_due, judged, may_hold_older
from fsm_core.memory.tables import OPEN

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
    due = [row for row in rows if is_due(registry, machine, row.status, row.version, every=every)]
    others = [row for row in rows if dry_run and may_hold_older(machine, row.status, row.version)]
    done = Upcast(looked=len(rows), older=len(due))
    for row in (*due, *others):
        done = done.plus(_one(tables, registry, machine, row, limits, dry_run=dry_run))
    return done


def _one(
    tables: Tables, registry: Registry, machine: AnyMachine, row: MachineRow, limits: Limits, *, dry_run: bool
) -> Upcast:
    actions = [
        OpenAction(a.name, a.version, a.payload, a.outcome)
        for a in tables.of_machine[row.id]
        if a.status in OPEN
    ]
    unit, unread = judged(registry, machine, tables.seen(row), tables.inbox[row.id], actions, limits=limits)
    if unit is None:
        return Upcast(unreadable=1 if unread else 0, unread=tuple(unread))
    if not (dry_run or tables.write(unit)):
        return Upcast(busy=1)  # its own upcaster has advanced it
    return Upcast(written=1)
