"""`fsm migrate`: bring the tables up, take them down, or say where they are."""

from __future__ import annotations

from typing import Annotated

import typer

from fsm_core.errors import ConfigurationError
from workers.cli import output
from workers.cli.address import BadArgument
from workers.settings import read


def migrate(
    *,
    down: Annotated[
        str | None,
        typer.Option("--down", metavar="REVISION", help="Go down to this revision; `base` leaves no table."),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Only say which revision the database has.")
    ] = False,
    as_json: output.AsJson = False,
) -> None:
    """Bring the database's tables up to what this code needs."""
    if down is not None and status:
        raise BadArgument("--down and --status do not go together")
    settings = read()
    from alembic.util.exc import CommandError

    from fsm_core.postgres import migrate as migrations

    if not status:
        try:
            if down is None:
                migrations.upgrade(settings.database_url, schema=settings.schema)
            else:
                migrations.downgrade(settings.database_url, down, schema=settings.schema)
        except CommandError as error:
            raise ConfigurationError(f"migrating: {error}") from error
    found, needed = migrations.status(settings.database_url, schema=settings.schema)
    if as_json:
        output.document(
            {"schema": settings.schema, "revision": found, "needed": needed, "up_to_date": found == needed}
        )
        return
    verdict = "up to date" if found == needed else f"this code needs {needed}"
    output.line(f"schema {settings.schema} is at {found or 'no revision'}: {verdict}")
