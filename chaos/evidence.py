"""What a run hands to the oracle, besides the tables and files that it has left."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chaos.plan import Plan


@dataclass
class Evidence:
    """Of a run in `folder`, in the database at `url`."""

    plan: Plan
    folder: Path
    url: str
    seconds: float = 0.0
    healed: float = 0.0
    """When the last fault was over, by the system's clock."""

    healed_after: float | None = None
    """How long after that everything had ended; None: it did not, in its time."""

    faults: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    mischief: Counter[str] = field(default_factory=Counter)
    restarts: list[tuple[float, float]] = field(default_factory=list)
    """When Postgres was gone, and when it answered again: a relay may be quicker than who looks for that."""

    points: list[str] = field(default_factory=list)
    """The crash points at which a process died, in their order."""

    unfinished: list[str] = field(default_factory=list)
    """Submitters that did not come to their end."""

    connections: Mapping[str, int] = field(default_factory=dict)
    """How many connections each process had open when all was done, by the process's name."""

    left: int = 0
    """What is still connected after all processes have ended."""

    dead_before: Mapping[str, int] = field(default_factory=dict)
    dead: Mapping[str, int] = field(default_factory=dict)
    """Dead rows that a VACUUM could not remove, by table: before the load, and when all was done."""

    memory: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    """The resident memory of the processes that nobody kills, over time, by name and pid."""


def deaths(folder: Path) -> list[tuple[float, str]]:
    """When a process died at which crash point, as the logs tell."""
    return sorted(
        (float(at), point)
        for log in folder.glob("*.log")
        for point, at in re.findall(
            r"^crash point (\S+), process \d+, ([\d.]+)$", log.read_text(errors="replace"), re.MULTILINE
        )
    )
