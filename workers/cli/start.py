"""`fsm start`: a new machine."""

from __future__ import annotations

from typing import Annotated

import typer

from fsm_core.codec import read_input
from workers.cli import documents, output
from workers.cli.address import BadArgument, machine_address
from workers.cli.session import opened


def start(
    machine: Annotated[
        str, typer.Argument(metavar="NAME[/KEY]", help="Its name; without a key, one is made up.")
    ],
    state: Annotated[
        str | None, typer.Argument(metavar="STATE", help="The initial state, if not its own.")
    ] = None,
    payload: Annotated[str, typer.Argument(metavar="JSON", help="The fields of the state.")] = "{}",
    *,
    as_json: output.AsJson = False,
) -> None:
    """Start a machine. If it is there already, nothing changes."""
    name, key = machine_address(machine) if "/" in machine else (machine, None)
    if not name:
        raise BadArgument("a machine has a name: NAME or NAME/KEY")
    with opened(machines=True) as store:
        known = store.registry.newest(name)
        chosen = None if state is None else read_input(known, "state", state, payload)
        now = store.start(known, key, chosen)
    if as_json:
        output.document(documents.snapshot(now))
    else:
        output.line(
            f"{described(documents.snapshot(now))}{' (it was there already)' if now.duplicate else ''}"
        )


def described(now: documents.Document) -> str:
    """A snapshot's document in one line."""
    state = output.named(str(now["state_name"]), now["state"])
    return f"{now['machine']}/{now['key']}: {state}, seq {now['seq']}, {now['status']}"
