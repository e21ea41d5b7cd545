"""`fsm upcast`: what older versions wrote, in the present shape."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from fsm_core.delivery.upcasting import Unread, Upcast
from workers.cli import output
from workers.cli.documents import Document
from workers.cli.session import opened
from workers.cli.walking import counted

if TYPE_CHECKING:
    from fsm_core.postgres import PostgresStore
    from fsm_core.registry import AnyMachine


def upcast(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Machines; without a name, all.")
    ] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what cannot be read. Nothing is written.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Also machines whose own version is listed, and could finish on it.")
    ] = False,
    as_json: output.AsJson = False,
) -> None:
    """Write live machines of older versions in the present shape. No event is recorded, and it may be run again at any time.

    A machine of whose state, held events and open actions something cannot be read is left as it was: it is shown, and the
    exit status is 1. So it is if a machine was held by somebody else for too long.
    """
    with opened(machines=True) as store:
        chosen = [store.registry.newest(name) for name in dict.fromkeys(names or store.registry.known())]
        with _bar(store, [machine.name for machine in chosen]) as progress:
            done = [
                (machine, store.upcast(machine, dry_run=dry_run, every=every, progress=progress))
                for machine in chosen
            ]
    unread = [each for _, result in done for each in result.unread]
    if as_json:
        machines = [_document(machine, result) for machine, result in done]
        output.document(
            {"dry_run": dry_run, "machines": machines, "unread": [each._asdict() for each in unread]}
        )
    else:
        _tell(done, unread, dry_run=dry_run)
    if not all(result.whole for _, result in done):
        raise typer.Exit(1)


@contextmanager
def _bar(store: PostgresStore, names: list[str]) -> Iterator[Callable[[int], object]]:
    """On a terminal, a bar goes along on stderr. Yields what is told of each batch."""
    from rich.console import Console
    from rich.progress import Progress

    shown = sys.stderr.isatty()
    with Progress(console=Console(file=sys.stderr), transient=True, disable=not shown) as progress:
        task = progress.add_task("machines", total=store.count(names) if shown else None)
        yield lambda looked: progress.advance(task, looked)


def _document(machine: AnyMachine, done: Upcast) -> Document:
    numbers = ("looked", "older", "written", "busy", "unreadable")
    return {"machine": machine.name, "version": machine.version} | {n: getattr(done, n) for n in numbers}


def _tell(done: list[tuple[AnyMachine, Upcast]], unread: list[Unread], *, dry_run: bool) -> None:
    for each in unread:
        output.line(
            f"{each.machine}/{each.key}: {each.role} {each.name} of version {each.version}: {each.error}"
        )
    for machine, result in done:
        would = "would be " if dry_run else ""
        said = f"{machine.name}: {result.written} of {counted(result.older, 'older machine')} {would}written as version {machine.version}"
        said += f", {result.unreadable} cannot be read" if result.unreadable else ""
        said += f", {result.busy} busy: run it again" if result.busy else ""
        output.line(said)
