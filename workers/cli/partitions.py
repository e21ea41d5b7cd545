"""`fsm partitions`: events, actions and attempts in ranges of the machine's birth, so that what is old goes by DROP."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli import output
from workers.cli.address import BadArgument, span
from workers.cli.walking import counted
from workers.settings import read

if TYPE_CHECKING:
    from fsm_core.postgres.partitions import Dropped, Partitions

partitions = typer.Typer(
    help="List, make and drop partitions. Without a command: list.",
    rich_markup_mode=None,
    invoke_without_command=True,
)

Ahead = Annotated[
    int, typer.Option("--ahead", metavar="N", min=0, max=100, help="How many ranges after the present one.")
]


@partitions.callback()
def listed(context: typer.Context, *, as_json: output.AsJson = False) -> None:
    """List the partitions, or make or drop some."""
    if context.invoked_subcommand is not None:
        return
    with made() as found:
        ranges = found.ranges()
    if as_json:
        output.document(
            [{"name": r.name, "from": _time(r.first), "to": _time(r.after), "bytes": r.size} for r in ranges]
        )
    elif ranges:
        rows = ((r.name, _time(r.first) or "", _time(r.after) or "", f"{r.size:,}") for r in ranges)
        output.table(("partition", "from", "to", "bytes"), rows)
    else:
        output.line("the tables are not partitioned")


@partitions.command()
def enable(
    every: Annotated[
        str, typer.Option("--every", metavar="day|week|month", help="How long a range is.")
    ] = "month",
    *,
    ahead: Ahead = 2,
) -> None:
    """Partition the tables of a fresh installation, right after `fsm migrate`. They are made anew: grants come after it."""
    from fsm_core.postgres.partitions import Every

    if every not in list(Every):
        raise BadArgument(f"--every is day, week or month, not {every!r}")
    with made() as found:
        found.enable(Every(every), ahead=ahead)
        output.line(f"partitioned by {every}: {counted(len(found.ranges()), 'partition')}")


@partitions.command()
def extend(*, ahead: Ahead = 2) -> None:
    """Make the partitions of the present and the next ranges, where they are missing. Run it more often than a range is long."""
    with made() as found:
        names = found.extend(ahead)
    output.line(f"made: {', '.join(names)}" if names else "all are there")


@partitions.command()
def drop(
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", metavar="SPAN", help="Ranges that ended, with all their machines, before: 90d."
        ),
    ],
    *,
    as_json: output.AsJson = False,
) -> None:
    """Drop old ranges whose machines are over, and forget those machines. The few that are not over keep all they have."""
    with made() as found:
        done = found.drop(span(older_than))
    if as_json:
        output.document({**done._asdict(), "ranges": list(done.ranges), "left": list(done.left)})
    else:
        output.line(told(done))


def dropped(age: timedelta) -> Dropped | None:
    """What goes by DROP, for `fsm prune --forget`; None: the tables are not partitioned."""
    with made() as found:
        return None if found.every is None else found.drop(age)


def told(done: Dropped) -> str:
    """What was dropped, in a line."""
    parts = [
        f"dropped {', '.join(done.ranges)}: {counted(done.machines, 'machine')} forgotten, {done.moved} kept"
        if done.ranges
        else "",
        f"left, for too many of their machines are not over: {', '.join(done.left)}" if done.left else "",
    ]
    return "; ".join(part for part in parts if part) or "nothing to drop"


@contextmanager
def made() -> Generator[Partitions]:
    """The partitions of the settings' database."""
    settings = read()
    from sqlalchemy import create_engine

    from fsm_core.postgres.partitions import Partitions
    from fsm_core.postgres.urls import engine_url

    engine = create_engine(engine_url(settings.database_url))
    try:
        yield Partitions(engine, settings.schema)
    finally:
        engine.dispose()


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
