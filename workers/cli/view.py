"""`fsm view`: a machine's rows for whoever speaks SQL, with one typed column per field of its states."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fsm_core.columns import columns
from fsm_core.errors import ConfigurationError
from workers.cli import output
from workers.cli.address import BadArgument
from workers.cli.session import known_machines
from workers.settings import read


def view(
    machine: Annotated[str, typer.Argument(metavar="NAME", help="The machine.")],
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Create the view, or replace the one that is there.")
    ] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Drop the view.")] = False,
    name: Annotated[
        str | None, typer.Option("--name", metavar="VIEW", help="Its name, if not the machine's.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Print a SQL view of a machine, or make it. It has one row per machine, and one typed column per field of its states."""
    if apply and drop:
        raise BadArgument("--apply and --drop do not go together")
    settings = read()
    if settings.cipher is not None and not drop:
        raise ConfigurationError(
            "payloads are encrypted here, and SQL cannot read them; keep in a table of your own what it needs (@machine.project)"
        )
    registry = known_machines(settings.machines)
    registry.newest(machine)
    from fsm_core.postgres.view import View

    # The newest version first: its order of the columns is the one to keep.
    versions = [known for known in reversed(registry.machines()) if known.name == machine]
    made = View(settings.schema, machine if name is None else name, machine, columns(versions))
    dropped = drop
    if drop:
        made.drop(settings.database_url)
    elif apply:
        dropped = made.create(settings.database_url)
    if as_json:
        shown = [{"name": each.name, "field": each.field, "type": each.type.value} for each in made.columns]
        output.document(
            {
                "schema": made.schema, "view": made.name, "machine": machine, "columns": shown, "sql": made.text(),
                "applied": apply, "dropped": dropped,
            }
        )  # fmt: skip
    elif drop:
        output.line(f"view {made} is dropped")
    elif apply:
        anew = "; its columns have changed: grant again what was granted on it" if dropped else ""
        output.line(f"view {made} is there, with {len(made.columns)} columns of the state{anew}")
    else:
        sys.stdout.write(made.text())
