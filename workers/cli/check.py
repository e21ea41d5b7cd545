"""`fsm check`: the static checks of the machines that are listed. It reads no database."""

from __future__ import annotations

from typing import Annotated

import typer

from fsm_core.check import check as find
from fsm_core.registry import AnyMachine, Registry
from workers.cli import documents, output
from workers.cli.session import known_machines
from workers.settings import listed


def check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Machines; without a name, all.")
    ] = None,
    *,
    as_json: output.AsJson = False,
) -> None:
    """Check machines by their signatures: what is declared and can never be right. Exit status 1 if there is any."""
    registry = known_machines(listed())
    chosen = _chosen(registry, names or ())
    findings = [
        found
        for machine in chosen
        for found in find(machine, registry.effects(machine.name, machine.version))
    ]
    if as_json:
        output.document([documents.finding(found) for found in findings])
    else:
        output.findings(findings, machines=len(chosen))
    if findings:
        raise typer.Exit(1)


def _chosen(registry: Registry, names: list[str] | tuple[()]) -> tuple[AnyMachine, ...]:
    """Every version of the machines named, or all there are. Raises UnknownMachine."""
    for name in names:
        registry.newest(name)
    return tuple(machine for machine in registry.machines() if not names or machine.name in names)
