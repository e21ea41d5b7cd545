"""`fsm actions`: a list of them."""

from __future__ import annotations

from typing import Annotated

import typer

from fsm_core.types import ActionStatus
from workers.cli import documents, output
from workers.cli.address import BadArgument
from workers.cli.machines import Limit, MachineName
from workers.cli.session import opened

KeyName = Annotated[
    str | None, typer.Option("--key", metavar="KEY", help="Only those of machines with this key.")
]
ActionName = Annotated[
    str | None, typer.Option("--action", metavar="NAME", help="Only actions of this name.")
]
QueueName = Annotated[str | None, typer.Option("--queue", metavar="NAME", help="Only those of this queue.")]


def actions(
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Short for --status failed.")] = False,
    status: Annotated[ActionStatus | None, typer.Option(help="Only those of this status.")] = None,
    machine: MachineName = None,
    key: KeyName = None,
    action: ActionName = None,
    queue: QueueName = None,
    limit: Limit = 100,
    as_json: output.AsJson = False,
) -> None:
    """List actions, the oldest first."""
    if failed and status not in (None, ActionStatus.FAILED):
        raise BadArgument(f"--failed and --status {status} do not go together")
    wanted = ActionStatus.FAILED if failed else status
    with opened() as store:
        found = store.actions(
            status=wanted and wanted.value, machine=machine, key=key, action=action, queue=queue, limit=limit
        )
    if as_json:
        output.document([documents.action(record) for record in found])
    else:
        output.actions(found)
