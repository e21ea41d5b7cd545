"""`fsm check-upgrade`: would this code have decided as the code did that wrote the logs?"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from fsm_core.audit import Difference, upgraded
from workers.cli import decisions, output
from workers.cli.address import span
from workers.cli.documents import Document
from workers.cli.session import opened
from workers.cli.walking import counted, not_replayed, pages


def check_upgrade(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Machines; without a name, all.")
    ] = None,
    *,
    since: Annotated[
        str, typer.Option(metavar="SPAN", help="Machines that have changed in that time: 90m, 12h, 7d, 2w.")
    ] = "7d",
    as_json: output.AsJson = False,
) -> None:
    """Replay recorded logs on the code that is here. It changes nothing. Exit status 1 if a machine would have gone another way."""
    age = span(since)
    found: list[Difference] = []
    count: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    with opened(machines=True) as store:
        chosen = [store.registry.newest(name).name for name in names or ()] or None
        for page in pages(store, chosen, age):
            for log in page:
                checked = upgraded(log, store.registry)
                count.update(machines=1, events=checked.events)
                unknown.update(f"{log.seen.machine} v{version}" for version in checked.unknown)
                found += [] if checked.difference is None else [checked.difference]
    if as_json:
        numbers = {"machines": count["machines"], "events": count["events"], "differing": len(found)}
        output.document({**numbers, "unknown": unknown, "differences": [_document(each) for each in found]})
    else:
        for each in found:
            _tell(each)
        among = f"{counted(count['machines'], 'machine')}, {counted(count['events'], 'event')}"
        said = counted(len(found), "difference") if found else "no differences"
        output.line(f"{said} in {among}{not_replayed(unknown)}")
    if found:
        raise typer.Exit(1)


def _document(found: Difference) -> Document:
    return {
        "machine": found.machine,
        "key": found.key,
        "seq": found.seq,
        "event": found.event,
        "error": found.error,
        "actions": [each._asdict() for each in found.actions],
        "state": [decisions.change(each) for each in found.state],
    }


def _tell(found: Difference) -> None:
    output.line(f"{found.machine}/{found.key}, event {found.seq}, {found.event}:")
    if found.error is not None:
        output.line(f"  {found.error}")
    for each in found.actions:
        output.line(f"  action {each.idx}: recorded {each.recorded or 'none'}; now {each.replayed or 'none'}")
    for line in decisions.change_lines(found.state, ("recorded ", "; now ")):
        output.line(line)
