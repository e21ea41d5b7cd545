"""Columns as array literals.

The driver adapts a list element by element in Python; for twenty short lists a statement, that took more of the caller's processor
than all the rest of an `advance`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EMPTY = "{}"


def literal(values: Sequence[object]) -> str:
    """`values` as PostgreSQL reads them for an array of their type; None is NULL.

    Raises TypeError for values of a type that no statement of ours has in an array.
    """
    if not values:
        return EMPTY
    return "{" + ",".join(["NULL" if v is None else _element(v) for v in values]) + "}"


def _element(value: object) -> str:
    write = _WRITES.get(type(value))
    if write is not None:
        return write(value)
    if isinstance(value, Enum):
        return _element(value.value)
    for kind, its in _WRITES.items():  # a subclass: the application's own kind of text or span of time
        if isinstance(value, kind):
            return its(value)
    raise TypeError(f"no array of ours holds a {type(value).__name__}")


def _text(value: str) -> str:
    if "\\" in value or '"' in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'


def _interval(value: timedelta) -> str:
    return f'"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"'


_WRITES: dict[type, Callable[[Any], str]] = {
    str: _text,
    int: str,
    bool: {True: "t", False: "f"}.__getitem__,
    UUID: str,
    bytes: lambda value: f'"\\\\x{value.hex()}"',
    datetime: datetime.isoformat,
    timedelta: _interval,
}
