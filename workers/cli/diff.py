"""`fsm diff`: what has changed between two events."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fsm_core.audit import Diff
from workers.cli import decisions, documents, output
from workers.cli.address import machine_address
from workers.cli.session import machine_of, opened
from workers.cli.show import MachineArgument

Seq = Annotated[int, typer.Argument(metavar="SEQ", min=0, help="The number of an event; 0 is the birth.")]


def diff(machine: MachineArgument, first: Seq, second: Seq, *, as_json: output.AsJson = False) -> None:
    """Show what has changed in a machine between two events. The fields of its state, and the actions emitted between."""
    address = machine_address(machine)
    with opened(machines=True) as store:
        found = store.diff(machine_of(store, *address), address.key, first, second)
    if as_json:
        output.document(_document(found))
    else:
        _tell(found)


def _document(found: Diff[Any]) -> documents.Document:
    return {
        "before": documents.snapshot(found.before),
        "after": documents.snapshot(found.after),
        "changes": [decisions.change(each) for each in found.changes],
        "actions": [decisions.action(each) for each in found.actions],
    }


def _tell(found: Diff[Any]) -> None:
    before, after = found.before, found.after
    said = "" if found.changes else ": the same state"
    output.line(f"{after.machine}/{after.key}: seq {before.seq} to {after.seq}{said}")
    for line in (*decisions.change_lines(found.changes), *decisions.action_lines(found.actions)):
        output.line(line)
