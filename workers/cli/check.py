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
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is accepted, with the reason; it does not count.")
    ] = False,
    as_json: output.AsJson = False,
) -> None:
    """Check machines by their signatures. Finds what is declared and can never be right; exit status 1 if there is any.

    What is meant is accepted beside the machine: Machine(..., accept={"dead-end:Disabled": "why"}).
    """
    registry = known_machines(listed())
    chosen = _chosen(registry, names or ())
    findings = [
        found
        for machine in chosen
        for found in find(machine, registry.effects(machine.name, machine.version))
    ]
    shown = [found for found in findings if everything or found.accepted is None]
    if as_json:
        output.document([documents.finding(found) for found in shown])
    else:
        output.findings(shown, accepted=len(findings) - len(shown), machines=len(chosen))
    if any(found.accepted is None for found in findings):
        raise typer.Exit(1)


def _chosen(registry: Registry, names: list[str] | tuple[()]) -> tuple[AnyMachine, ...]:
    """Every version of the machines named, or all there are. Raises UnknownMachine."""
    for name in names:
        registry.newest(name)
    return tuple(machine for machine in registry.machines() if not names or machine.name in names)
