"""`fsm doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli import output
from workers.cli.address import span
from workers.settings import read

if TYPE_CHECKING:
    from workers.doctor import Finding


def doctor(
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 1 for a warning too.")] = False,
    patience: Annotated[
        str, typer.Option(metavar="SPAN", help="What may take so long without a word: 30s, 5m.")
    ] = "60s",
    as_json: output.AsJson = False,
) -> None:
    """Look over broker, database, processes and queues. What needs hands comes first. Exit status 1 for an error."""
    longest, settings = span(patience), read()
    from workers.celery import create_app
    from workers.doctor import Severity, examine

    app = create_app()
    app.conf.broker_url = settings.broker_url
    found = examine(settings, app, longest)
    if as_json:
        output.document([_document(finding) for finding in found])
    else:
        for finding in found:
            advice = f" -> {finding.advice}" if finding.advice else ""
            output.line(f"{_named(finding):7}  {finding.code}: {finding.message}{advice}")
    if any(finding.severity <= (Severity.WARNING if strict else Severity.ERROR) for finding in found):
        raise typer.Exit(1)


def _named(finding: Finding) -> str:
    return finding.severity.name.lower()


def _document(finding: Finding) -> dict[str, object]:
    return {
        "severity": _named(finding),
        "code": finding.code,
        "message": finding.message,
        "advice": finding.advice,
    }
