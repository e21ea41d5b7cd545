"""`fsm prune`: delete what is over for longer than it is kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from fsm_core.delivery.retention import Pruned, Retention
from workers.cli import output
from workers.cli.address import BadArgument, span
from workers.cli.partitions import dropped, told
from workers.cli.session import opened
from workers.cli.walking import counted
from workers.settings import read


def prune(
    *,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN", help="Details of machines that ended before: 12h, 30d. Else: FSM_RETENTION."
        ),
    ] = None,
    forget: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Whole machines that ended before. Else: FSM_FORGET.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Also cut the logs of machines that live.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and delete nothing.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Delete the details of machines that ended long ago. Events, actions, attempts go; rows, dedup keys and the last failure stay.

    With --forget, machines that ended even longer ago are deleted whole; of partitioned tables, ranges that are over are dropped before.
    Held events that have expired are always deleted.
    """
    kept = read().retention
    retention = Retention(_age(older_than, kept.details), _age(forget, kept.whole))
    if retention.first is None:
        raise BadArgument("nothing says how long to keep what; give --older-than 30d, or set FSM_RETENTION")
    ranges = None if dry_run or retention.whole is None else dropped(retention.whole)
    with opened() as store:
        done = store.prune(retention, live=live, dry_run=dry_run)
    if as_json:
        output.document(
            {**done._asdict(), "dry_run": dry_run, **({} if ranges is None else {"ranges": ranges.ranges})}
        )
    else:
        if ranges is not None:
            output.line(told(ranges))
        output.line(_told(done, dry_run=dry_run))


def _age(given: str | None, kept: timedelta | None) -> timedelta | None:
    return kept if given is None else span(given)


def _told(done: Pruned, *, dry_run: bool) -> str:
    said = [
        (done.machines, "ended machine", "pruned"),
        (done.cut, "live machine", "cut"),
        (done.forgotten, "machine", "forgotten"),
        (done.unborn, "machine", "never born"),
    ]
    parts = [f"{counted(number, what)} {became}" for number, what, became in said if number]
    rows = [
        (done.events, "event"),
        (done.actions, "action"),
        (done.attempts, "attempt"),
        (done.held, "held event"),
    ]
    deleted = ", ".join(counted(number, what) for number, what in rows if number)
    would = "would be: " if dry_run else ""
    if not parts and not deleted:
        return f"{would}nothing"
    return would + ", ".join(parts) + (f"{'; ' if parts else ''}deleted: {deleted}" if deleted else "")
