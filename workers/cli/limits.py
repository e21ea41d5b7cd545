"""`fsm limits`: how much may be under way at a time in the whole cluster, and how often it may begin."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

from fsm_core.limits import SECOND, Limit
from workers.cli import output
from workers.cli.address import BadArgument
from workers.cli.session import opened

limits = typer.Typer(
    help="List, set and remove cluster-wide limits. Without a command: list.",
    rich_markup_mode=None,
    invoke_without_command=True,
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="What a Route(limit=) names; or queue:QUEUE, which holds for a whole queue."
    ),
]

_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RATE = re.compile(r"(?P<count>\d+(?:\.\d+)?)/(?P<times>\d+(?:\.\d+)?)?(?P<unit>[smhd])", re.ASCII)


@limits.callback()
def listed(context: typer.Context, *, as_json: output.AsJson = False) -> None:
    """List the limits, or set or remove one."""
    if context.invoked_subcommand is not None:
        return
    with opened() as store:
        found = store.limits()
    if as_json:
        output.document([_document(limit) for limit in found])
    elif found:
        rows = ((each.name, _count(each.max_running), _rate(each), _count(each.burst)) for each in found)
        output.table(("limit", "running at most", "rate", "burst"), rows)
    else:
        output.line("no limits")


@limits.command("set")
def put(
    name: Name,
    *,
    max_running: Annotated[
        int | None, typer.Option("--max-running", metavar="N", help="At a time, for each key. 0 is a pause.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="N/SPAN", help="How many may begin: 10/s, 100/m, 5/30s.")
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option(
            "--burst", metavar="N", help="How many at once after a rest; else as many as --rate has."
        ),
    ] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="Let everything through.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Set a limit, or change it as a whole: what is not given is off."""
    if unlimited == (max_running is not None or rate is not None):
        raise BadArgument("what is the limit? Give --max-running, --rate or both; or --unlimited alone")
    count, per = _read(rate)
    with opened() as store:
        limit = store.limit(name, max_running=max_running, rate=count, per=per, burst=burst)
    if as_json:
        output.document(_document(limit))
    else:
        output.line(
            f"limit {name}: running at most {_count(max_running)}, rate {_rate(limit)}, burst {_count(limit.burst)}"
        )


@limits.command("remove")
def remove(name: Name, *, as_json: output.AsJson = False) -> None:
    """Remove a limit. Actions that ask for it are held back until it is set again: --unlimited lets them through."""
    with opened() as store:
        was = store.remove_limit(name)
    if not was:
        raise BadArgument(f"there is no limit {name!r}")
    if as_json:
        output.document({"limit": name, "removed": True})
    else:
        output.line(f"limit {name} is removed")


def _read(text: str | None) -> tuple[float | None, timedelta]:
    if text is None:
        return None, SECOND
    found = _RATE.fullmatch(text)
    if found is None:
        raise BadArgument(f"--rate is a number and a span, as in 10/s, 100/m or 5/30s, not {text!r}")
    seconds = float(found["times"] or 1) * _SPANS[found["unit"]]
    try:
        return float(found["count"]), timedelta(seconds=seconds)
    except OverflowError:
        raise BadArgument(f"--rate: nobody waits for {text!r}") from None


def _document(limit: Limit) -> dict[str, object]:
    return {
        "limit": limit.name, "max_running": limit.max_running, "rate": limit.rate,
        "per_seconds": None if limit.rate is None else limit.per.total_seconds(), "burst": limit.burst,
    }  # fmt: skip


def _count(number: int | None) -> str:
    return "any number" if number is None else str(number)


def _rate(limit: Limit) -> str:
    if limit.rate is None:
        return "any"
    seconds = limit.per.total_seconds()
    unit = next((unit for unit, span in _SPANS.items() if span == seconds), None)
    return f"{limit.rate:g}/{unit}" if unit else f"{limit.rate:g}/{seconds:g}s"
