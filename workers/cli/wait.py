"""`fsm wait`: until a machine has ended."""

from __future__ import annotations

from typing import Annotated

import typer

from fsm_core.types import MachineStatus
from workers.cli import documents, output
from workers.cli.address import machine_address, span
from workers.cli.session import machine_of, opened
from workers.cli.show import MachineArgument

_INTERRUPTED = 130


def wait(
    machine: MachineArgument,
    *,
    timeout: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Wait no longer than this: 30s, 5m.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Wait until a machine has ended, and show it. Exit status 1 if it failed, was cancelled, or has not ended in time."""
    name, key = machine_address(machine)
    most = None if timeout is None else span(timeout)
    try:
        with opened(machines=True) as store:
            status = store.wait(machine_of(store, name, key), key, most).status
            record = store.record(name, key)
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    if as_json:
        output.document(documents.machine(record))
    else:
        output.machine(record, ())
    if status is not MachineStatus.DONE:
        raise typer.Exit(1)
