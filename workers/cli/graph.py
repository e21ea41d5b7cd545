"""`fsm graph`: a picture of a machine, or of one instance with the path that it took."""

from __future__ import annotations

import shutil
import subprocess
import sys
from enum import StrEnum
from typing import Annotated

import typer

from fsm_core.audit import beginning, steps
from fsm_core.diagram import Graph, Step, dot, draw, mermaid
from fsm_core.errors import ConfigurationError
from workers.cli.address import Address, BadArgument, machine_address
from workers.cli.session import known_machines, machine_of, opened
from workers.settings import listed


class Format(StrEnum):
    """What the picture is written in."""

    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"


def graph(
    machine: Annotated[
        str, typer.Argument(metavar="NAME[/KEY]", help="The machine; with a key, its path is highlighted.")
    ],
    *,
    form: Annotated[Format, typer.Option("--format", help="svg needs Graphviz's `dot`.")] = Format.MERMAID,
) -> None:
    """Draw a machine. Without a key, no database is read."""
    if "/" in machine:
        picture = _instance(machine_address(machine))
    else:
        picture = draw(known_machines(listed()).newest(machine))
    sys.stdout.write(_written(picture, form))


def _instance(address: Address) -> Graph:
    with opened(machines=True) as store:
        known, reader = machine_of(store, *address), store.registry.reader
        log = store.log(*address)
    path = [
        Step(step.entry.name, known.state_name(step.old), known.state_name(step.new))
        for step in steps(log, reader, beginning(log, reader).base)
        if step.entry.seq > 0 and step.entry.outcome == "applied"
    ]
    return draw(known, path, log.seen.state_name)


def _written(picture: Graph, form: Format) -> str:
    if form is Format.MERMAID:
        return mermaid(picture)
    return dot(picture) if form is Format.DOT else _svg(dot(picture))


def _svg(source: str) -> str:
    """Raises BadArgument: there is no `dot`. ConfigurationError: it failed."""
    program = shutil.which("dot")
    if program is None:
        raise BadArgument("svg needs Graphviz's `dot` on the PATH; --format mermaid and dot do without")
    done = subprocess.run(
        [program, "-Tsvg"], input=source, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode != 0:
        raise ConfigurationError(f"{program} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout
