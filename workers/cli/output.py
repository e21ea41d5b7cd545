"""What the verbs print: JSON documents, or lines and tables for a person.

Payloads and errors come from other programs, so they are printed as text and nothing else: no markup of rich's, and no
control characters that would steer the terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from fsm_core.check import Finding
from fsm_core.records import ActionRecord, AttemptRecord, HistoryEntry, MachineRecord
from workers.cli import documents

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")]

_PIPE_WIDTH = 4000
_STYLES = {
    "live": "cyan", "applied": "green", "running": "yellow", "published": "yellow", "completed": "green", "done": "green",
    "failed": "red", "lost": "red", "timed_out": "red", "cancelled": "magenta", "ignored": "dim", "blocked": "dim",
}  # fmt: skip


def document(value: object) -> None:
    """Print one JSON document. ASCII, so that no terminal and no locale can spoil it."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def line(text: str) -> None:
    """Print one line for a person."""
    sys.stdout.write(plain(text) + "\n")


def plain(text: str) -> str:
    """`text` in one line, with every control character written out."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def named(name: str, payload: object) -> str:
    """A state, event or action with its payload."""
    return f"{name} {json.dumps(payload, ensure_ascii=False)}" if payload else name


def clock(moment: datetime | None) -> str:
    """A time for a person: UTC, to the millisecond."""
    return (
        "" if moment is None else moment.astimezone(UTC).isoformat(" ", "milliseconds").removesuffix("+00:00")
    )


def machines(records: Sequence[MachineRecord]) -> None:
    """A table of machines."""
    if not records:
        line("no machines")
        return
    rows = (
        (f"{r.machine}/{r.key}", named(r.state_name, r.state), r.status.value, str(r.seq), str(r.version), clock(r.updated_at))
        for r in records
    )  # fmt: skip
    table(("machine", "state", "status", "seq", "version", "changed (UTC)"), rows, status=2)


def machine(record: MachineRecord, open_actions: Sequence[ActionRecord]) -> None:
    """One machine, and what it waits for."""
    table(("", ""), [
        ("machine", f"{record.machine}/{record.key}"),
        ("state", named(record.state_name, record.state)),
        ("status", record.status.value),
        ("seq", str(record.seq)),
        ("version", str(record.version)),
        ("id", str(record.id)),
        ("created (UTC)", clock(record.created_at)),
        ("changed (UTC)", clock(record.updated_at)),
        *([("ended (UTC)", clock(record.ended_at))] if record.ended_at else []),
        ("held events", str(record.held)),
        ("open actions", str(len(open_actions))),
    ], heading=False)  # fmt: skip
    if open_actions:
        line("")
        actions(open_actions)


def actions(records: Sequence[ActionRecord]) -> None:
    """A table of actions."""
    if not records:
        line("no actions")
        return
    rows = (
        (str(r.id), f"{r.machine}/{r.key}", named(r.name, r.payload), r.status.value, str(r.attempt), r.queue,
         clock(r.finished_at or r.run_at), r.error or r.note or "")
        for r in records
    )  # fmt: skip
    columns = ("id", "machine", "action", "status", "attempt", "queue", "finished or due (UTC)", "error")
    table(columns, rows, status=3)


def history(entries: Sequence[HistoryEntry]) -> None:
    """A machine's log: each event, its actions below it, and their attempts below them."""
    table(("seq", "time (UTC)", "event, action, attempt", "status", ""), _history_rows(entries), status=3)


def _history_rows(entries: Iterable[HistoryEntry]) -> Iterable[tuple[str, ...]]:
    for entry in entries:
        what = named(entry.name, entry.payload)
        birth = f"started as {what}" if entry.seq == 0 else what
        yield str(entry.seq), clock(entry.occurred_at), birth, entry.outcome, entry.reason or ""
        for action in entry.actions:
            note = action.note or ""
            yield "", "", f"  -> {named(action.name, action.payload)}", action.status.value, note
            for attempt in action.attempts:
                yield (
                    "", clock(attempt.started_at), f"     attempt {attempt.number}", attempt.outcome or "running",
                    _took(attempt),
                )  # fmt: skip


def _took(attempt: AttemptRecord) -> str:
    seconds = documents.duration(attempt)
    took = "" if seconds is None else f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
    return f"{took}  {attempt.error}" if attempt.error else took


def findings(found: Sequence[Finding], *, accepted: int, machines: int) -> None:
    """What `check` found, one in a line; how many more are `accepted` and not shown."""
    for finding in found:
        reason = "" if finding.accepted is None else f" (accepted: {finding.accepted})"
        line(f"{finding.code}  {finding.place}: {finding.message}{reason}")
    if not found:
        more = f", {accepted} accepted (see --all)" if accepted else ""
        line(f"no findings in {machines} machine{'' if machines == 1 else 's'}{more}")


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, status: int | None = None, heading: bool = True
) -> None:
    """A table on standard output; the column `status` is coloured by its words, and the first is never folded."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, show_header=heading, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        made.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        cells: list[Text] = [
            Text(plain(cell), style=_STYLES.get(cell, "") if number == status else "")
            for number, cell in enumerate(row)
        ]
        made.add_row(*cells)
    console = _console()
    with console.capture() as printed:
        console.print(made)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in printed.get().splitlines())


def _console() -> Console:
    from rich.console import Console

    # Into a pipe nothing is folded: a program reads it by lines.
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
