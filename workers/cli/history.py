"""`fsm history`: the log of one machine."""

from __future__ import annotations

from workers.cli import documents, output
from workers.cli.address import machine_address
from workers.cli.session import opened
from workers.cli.show import MachineArgument


def history(machine: MachineArgument, *, as_json: output.AsJson = False) -> None:
    """Show the log of a machine. Its events, each with its actions and their attempts."""
    name, key = machine_address(machine)
    with opened() as store:
        entries = store.history(name, key)
    if as_json:
        output.document([documents.event(entry) for entry in entries])
    else:
        output.history(entries)
