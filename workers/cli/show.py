"""`fsm show`: one machine now."""

from __future__ import annotations

from typing import Annotated

import typer

from fsm_core.types import ActionStatus
from workers.cli import documents, output
from workers.cli.address import machine_address
from workers.cli.session import opened

MachineArgument = Annotated[str, typer.Argument(metavar="NAME/KEY", help="The machine.")]

_OPEN = (
    ActionStatus.RUNNING, ActionStatus.PUBLISHED, ActionStatus.PENDING, ActionStatus.BLOCKED, ActionStatus.FAILED
)  # fmt: skip


def show(machine: MachineArgument, *, as_json: output.AsJson = False) -> None:
    """Show a machine and what it waits for. Actions that have not ended well are listed, at most 100 of each status."""
    name, key = machine_address(machine)
    with opened() as store:
        record = store.record(name, key)
        waiting = [
            action
            for status in _OPEN
            for action in store.actions(status=status.value, machine=name, key=key, limit=100)
        ]
    waiting.sort(key=lambda action: action.id)
    if as_json:
        open_actions = [documents.action(action) for action in waiting]
        output.document({**documents.machine(record), "open_actions": open_actions})
    else:
        output.machine(record, waiting)
