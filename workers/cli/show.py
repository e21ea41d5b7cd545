"""`fsm show`: one machine now."""

from __future__ import annotations

from typing import Annotated

import typer

from fsm_core.types import ActionStatus
from workers.cli import documents, output
from workers.cli.address import machine_address
from workers.cli.session import machine_of, opened
from workers.cli.start import described

MachineArgument = Annotated[str, typer.Argument(metavar="NAME/KEY", help="The machine.")]

_OPEN = (
    ActionStatus.RUNNING, ActionStatus.PUBLISHED, ActionStatus.PENDING, ActionStatus.BLOCKED, ActionStatus.FAILED
)  # fmt: skip


def show(
    machine: MachineArgument,
    *,
    at: Annotated[
        int | None, typer.Option("--at", min=0, metavar="SEQ", help="As it was right after this event.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Show a machine and what it waits for. Actions that have not ended well are listed, at most 100 of each status."""
    name, key = machine_address(machine)
    if at is not None:
        _show_then(name, key, at, as_json=as_json)
        return
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


def _show_then(name: str, key: str, seq: int, *, as_json: bool) -> None:
    with opened(machines=True) as store:
        then = documents.snapshot(store.state_at(machine_of(store, name, key), key, seq))
    if as_json:
        output.document(then)
    else:
        output.line(described(then))
