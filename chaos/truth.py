"""The ground truth: files outside both databases, to which every process appends whole lines.

A line is one `write` to a file opened with O_APPEND: it is there whole or not at all, and outlives the process that wrote it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = "CHAOS_FOLDER"
EFFECTS = "effects"
JOURNALS = "journal."


def append(file: str | Path, *fields: object) -> None:
    """Append one line of `fields` and the time, in one write."""
    line = "\t".join([*map(str, fields), f"{time.time():.6f}"]) + "\n"
    descriptor = os.open(file, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def lines(file: str | Path) -> Iterator[list[str]]:
    """The fields of each line, the time last; none, if nobody has written."""
    path = Path(file)
    if path.exists():
        with path.open() as opened:
            for line in opened:
                yield line.rstrip("\n").split("\t")


@dataclass(frozen=True, slots=True)
class Start:
    """One start of an effect, as the effect itself noted it. end: None, if it never came to its end."""

    action: str
    attempt: int
    name: str
    group: str
    pid: int
    began: float
    ended: float | None


class Effects:
    """What an effect writes: a line when it starts and one when it ends, whatever happens in between."""

    def __init__(self, name: str, action: str, attempt: int, group: str = "") -> None:
        self._fields = (action, attempt, name, group, os.getpid())
        self._file = Path(os.environ[FOLDER]) / EFFECTS

    def __enter__(self) -> None:
        append(self._file, "start", *self._fields)

    def __exit__(self, *_: object) -> None:
        append(self._file, "end", *self._fields)


def starts(folder: Path) -> list[Start]:
    """All starts of effects, in the order of the file."""
    begun: dict[tuple[str, ...], list[float]] = {}
    ended: dict[tuple[str, ...], list[float]] = {}
    order: list[tuple[str, ...]] = []
    for kind, *fields, at in lines(folder / EFFECTS):
        key = tuple(fields)
        (begun if kind == "start" else ended).setdefault(key, []).append(float(at))
        if kind == "start":
            order.append(key)
    found = []
    for key in order:
        action, attempt, name, group, pid = key
        began = begun[key].pop(0)
        ends = ended.get(key)
        found.append(Start(action, int(attempt), name, group, int(pid), began, ends.pop(0) if ends else None))
    return found
