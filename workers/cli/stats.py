"""`fsm stats`: how much there is of everything, without counting what is large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_core.types import MachineStatus
from workers.cli import output
from workers.settings import read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from fsm_core.postgres.flows.doctor import Count, Depth, Process, Stats

_STATUSES = tuple(status.value for status in MachineStatus)


def stats(*, as_json: output.AsJson = False) -> None:
    """Count machines, rows by queue, failures, and who is alive. Cheap, also with millions of machines.

    A number with ~ is estimated from a sample; one with > is where counting ended.
    """
    settings = read()
    from workers.doctor.count import count

    found = count(settings)
    if as_json:
        output.document(_document(found))
    else:
        _print(found)


def _document(found: Stats) -> dict[str, object]:
    return {
        "machines": [{"machine": name, **_numbers(counts)} for name, counts in found.machines.items()],
        "queues": [_queue(depth, found.processes) for depth in found.depths],
        "failed_actions": found.failed.actions,
        "failed_actions_last_hour": found.failed.lately,
        "attempts_last_hour": _numbers(found.attempts),
        "processes": [
            {"kind": process.kind, "where": process.where, "queues": dict(process.queues)}
            for process in found.processes
            if process.alive
        ],
    }


def _numbers(counts: Mapping[str, Count]) -> dict[str, object]:
    return {**{name: count.number for name, count in counts.items()}, "estimated": _estimated(counts)}


def _queue(depth: Depth, processes: tuple[Process, ...]) -> dict[str, object]:
    return {
        "queue": depth.queue,
        "due": depth.due,
        "oldest_due_seconds": _seconds(depth.due_for),
        "published": depth.published,
        "oldest_published_seconds": _seconds(depth.published_for),
        "running": depth.running,
        "slots": _slots(depth.queue, processes),
    }


def _print(found: Stats) -> None:
    from workers.doctor.findings import counted

    if found.machines:
        rows = (
            (name, *(_shown(counts[status]) for status in _STATUSES))
            for name, counts in found.machines.items()
        )
        output.table(("machine", *_STATUSES), rows)
    else:
        output.line("no machines")
    output.line("")
    if found.depths:
        columns = ("queue", "due", "oldest", "published", "oldest", "running", "slots")
        output.table(columns, (_line(depth, found.processes) for depth in found.depths))
    else:
        output.line("no queues")
    output.line("")
    said = counted(found.failed.actions, "failed action")
    output.line(f"{said}, {found.failed.lately:,} of them in the last hour")
    wrong = ", ".join(f"{name} {_shown(count)}" for name, count in found.attempts.items())
    output.line(f"attempts that went wrong in the last hour: {wrong}")
    alive = [process for process in found.processes if process.alive]
    nodes, relays = ([p for p in alive if p.kind == kind] for kind in ("node", "relay"))
    slots = sum(max(process.queues.values(), default=0) for process in nodes)
    output.line(
        f"{counted(len(nodes), 'worker')} alive with {counted(slots, 'slot')}, {counted(len(relays), 'relay')}"
    )


def _line(depth: Depth, processes: tuple[Process, ...]) -> tuple[str, ...]:
    from workers.doctor.findings import span, upto

    due_for, published_for = (
        "" if age is None else span(age) for age in (depth.due_for, depth.published_for)
    )
    return (
        depth.queue, upto(depth.due), due_for, upto(depth.published), published_for, f"{depth.running:,}",
        str(_slots(depth.queue, processes)),
    )  # fmt: skip


def _slots(queue: str, processes: tuple[Process, ...]) -> int:
    return sum(process.queues.get(queue, 0) for process in processes if process.alive)


def _estimated(counts: Mapping[str, Count]) -> bool:
    return any(not count.exact for count in counts.values())


def _shown(count: Count) -> str:
    return f"{'' if count.exact else '~'}{count.number:,}"


def _seconds(age: timedelta | None) -> float | None:
    return None if age is None else age.total_seconds()
