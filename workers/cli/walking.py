"""Going through the records of many machines, a page at a time, with a bar that shows how far it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from fsm_core.audit import Log

if TYPE_CHECKING:
    from fsm_core.postgres import PostgresStore


def pages(
    store: PostgresStore, names: Sequence[str] | None = None, since: timedelta | None = None
) -> Iterator[list[Log]]:
    """The records of all machines (of these `names`, changed `since` then) by id. On a terminal, a bar goes along on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    shown = sys.stderr.isatty()
    with Progress(console=Console(file=sys.stderr), transient=True, disable=not shown) as progress:
        task = progress.add_task("machines", total=store.count(names, since=since) if shown else None)
        after = None
        while page := store.logs(names, since=since, after=after):
            yield page
            after = page[-1].seen.id
            progress.advance(task, len(page))


def not_replayed(unknown: dict[str, int]) -> str:
    """What is said of machines that wait for code that is not here, or "" if there are none; `unknown` counts them by version."""
    named = ", ".join(f"{name} ({count})" for name, count in sorted(unknown.items()))
    return f"; not replayed, their code is not here: {named}" if named else ""


def counted(number: int, what: str) -> str:
    """A number of things."""
    return f"{number} {what}{'' if number == 1 else 's'}"
