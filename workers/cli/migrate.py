"""`fsm migrate`: bring the tables up, take them down, or say where they are."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from fsm_core.errors import ConfigurationError
from workers.cli import output
from workers.cli.address import BadArgument
from workers.settings import read


class Way(StrEnum):
    """Where to."""

    UP = "up"
    DOWN = "down"
    STATUS = "status"


def migrate(
    way: Annotated[
        Way, typer.Argument(metavar="[up|down|status]", help="Bring the tables up, take them down, or say.")
    ] = Way.UP,
    revision: Annotated[
        str | None, typer.Argument(metavar="[REVISION]", help="Where to stop; `base` leaves no table.")
    ] = None,
    *,
    as_json: output.AsJson = False,
) -> None:
    """Bring the tables up, take them down, or say where they are. Up: to what this code needs."""
    if way is Way.DOWN and revision is None:
        raise BadArgument("down needs a revision; `base` leaves no table")
    if way is Way.STATUS and revision is not None:
        raise BadArgument("status takes no revision")
    settings = read()
    from alembic.util.exc import CommandError

    from fsm_core.postgres import migrate as migrations

    if way is not Way.STATUS:
        try:
            if way is Way.UP:
                migrations.upgrade(settings.database_url, revision or "head", settings.schema)
            else:
                migrations.downgrade(settings.database_url, revision or "base", settings.schema)
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
