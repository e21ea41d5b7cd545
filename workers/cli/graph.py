"""`fsm graph`: a picture of a machine, or of one instance with the path that it took."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from fsm_core.codec import decode_named
from fsm_core.context import Context
from fsm_core.decide import advance
from fsm_core.diagram import Graph, Step, dot, draw, mermaid
from fsm_core.errors import ConfigurationError, TransitionError
from fsm_core.registry import AnyMachine
from fsm_core.types import HistoryEntry, MachineRecord
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
        known = machine_of(store, *address)
        record, log = store.record(*address), store.history(*address)
    # What came in between the two readings is in neither the state nor the path.
    path = _path(known, record, [entry for entry in log if entry.seq <= record.seq])
    return draw(known, path, record.state_name)


def _path(machine: AnyMachine, record: MachineRecord, log: Sequence[HistoryEntry]) -> list[Step]:
    """The steps of the log, replayed on this process's code. Raises TransitionError: it does not replay."""
    path: list[Step] = []
    state: object = None
    for entry in log:
        payload = json.dumps(entry.payload)
        try:
            if entry.seq == 0:
                state = decode_named(machine, "state", entry.name, payload)
            elif entry.outcome == "applied":
                event = decode_named(machine, "event", entry.name, payload)
                ctx = Context(entry.occurred_at, record.id, record.key, entry.seq)
                before, state = state, advance(machine, state, event, ctx).state
                path.append(Step(entry.name, machine.state_name(before), machine.state_name(state)))
        except Exception as error:
            raise TransitionError(
                f"{record.machine}/{record.key} does not replay on this code: event {entry.seq}, {entry.name}: "
                f"{type(error).__name__}: {error}"
            ) from error
    return path


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
