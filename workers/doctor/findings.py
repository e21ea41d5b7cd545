"""What a check says: how bad it is, what it means, and what to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from fsm_core.postgres.flows.doctor import MOST

if TYPE_CHECKING:
    from datetime import timedelta


class Severity(IntEnum):
    """How bad it is; what needs somebody's hand comes first."""

    ERROR = 0  # something stands still, or may be lost
    WARNING = 1  # it goes on, and gets worse or is worth a look
    OK = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: what was looked at (`code`, a promise), in words what it means, and what to do about it."""

    severity: Severity
    code: str
    message: str
    advice: str | None = None


def error(code: str, message: str, advice: str | None = None) -> Finding:
    """Something stands still, or may be lost."""
    return Finding(Severity.ERROR, code, message, advice)


def warning(code: str, message: str, advice: str | None = None) -> Finding:
    """It is worth a look."""
    return Finding(Severity.WARNING, code, message, advice)


def fine(code: str, message: str) -> Finding:
    """It is as it should be."""
    return Finding(Severity.OK, code, message)


def span(age: timedelta) -> str:
    """An age in one unit: `40 s`, `12 min`, `5 h`, `3 d`."""
    seconds = abs(age.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def counted(number: int, what: str) -> str:
    """A number of things; what was not counted to its end says so."""
    return f"{upto(number)} {what}{'' if number == 1 else 's'}"


def upto(number: int) -> str:
    """A number; `>10,000`, if it was not counted to its end."""
    return f">{MOST - 1:,}" if number >= MOST else f"{number:,}"
