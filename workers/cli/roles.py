"""`fsm roles`: what each process may do in the database, as GRANTs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from workers.cli import output
from workers.cli.address import BadArgument
from workers.settings import read


def roles(
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Make the roles and grant, in one transaction.")
    ] = False,
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="TEXT", help="What the names of the roles begin with.")
    ] = "fsm_",
    login: Annotated[
        list[str] | None,
        typer.Option(
            "--login",
            metavar="USER=ROLE[,ROLE]",
            help="A user with its roles and timeouts; made without a password if it is missing.",
        ),
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Print the SQL of the roles and their grants, or run it.

    submitter, operator, worker, relay, pruner and reader; it may be run again at any time.

    To be run by whoever owns the tables, after each `fsm migrate` that changed something.
    """
    settings = read()
    from fsm_core.postgres import roles as database

    logins = {}
    for given in login or ():
        name, _, wanted = given.rpartition("=")
        known = [role for role in database.Role if role in wanted.split(",")]
        if not name or len(known) != len(set(wanted.split(","))):
            raise BadArgument(f"--login is USER=ROLE[,ROLE] of {', '.join(database.Role)}, not {given!r}")
        logins[name] = known
    statements = database.statements(settings.schema, prefix, logins)
    if apply:
        database.apply(settings.database_url, settings.schema, prefix, logins)
    names = {role.value: f"{prefix}{role}" for role in database.Role}
    if as_json:
        output.document({"schema": settings.schema, "roles": names, "sql": statements, "applied": apply})
    elif apply:
        output.line(f"schema {settings.schema} has granted what they need to {', '.join(names.values())}")
    else:
        sys.stdout.write("BEGIN;\n" + "".join(f"{statement};\n" for statement in statements) + "COMMIT;\n")
