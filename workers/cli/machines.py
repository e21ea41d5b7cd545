"""`fsm machines`: a list of them."""

from __future__ import annotations

from typing import Annotated

import typer

from fsm_core.types import MachineStatus
from workers.cli import documents, output
from workers.cli.session import opened

Limit = Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")]
MachineName = Annotated[
    str | None, typer.Option("--machine", metavar="NAME", help="Only machines of this name.")
]


def machines(
    *,
    machine: MachineName = None,
    state: Annotated[str | None, typer.Option(metavar="NAME", help="Only those in this state.")] = None,
    status: Annotated[MachineStatus | None, typer.Option(help="Only those of this status.")] = None,
    limit: Limit = 100,
    as_json: output.AsJson = False,
) -> None:
    """List machines, the last changed first."""
    with opened() as store:
        found = store.machines(machine, status=status and status.value, state=state, limit=limit)
    if as_json:
        output.document([documents.machine(record) for record in found])
    else:
        output.machines(found)
