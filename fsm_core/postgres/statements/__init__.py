"""Every SQL statement of the system, each in one named place with its purpose, its locks and the index that serves it.

`machines` has what reads and decides, `outbox` what a worker does to actions, `relay` what a relay does, `reads` what is
only looked at. Placeholders in braces are the schema's: `{s}` its name, `{bell}` the advisory lock of the relay on duty,
`{channel}` the channel that wakes it. Advisory locks: class 0x46534D "FSM" = the bell, class 0x46534E = admission.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import LiteralString
from zlib import crc32

from psycopg import sql

BELL_CLASS = int.from_bytes(b"FSM")
ADMISSION_CLASS = BELL_CLASS + 1


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; `name` is what errors and traces call it."""

    name: str
    text: LiteralString

    def on(self, schema: str) -> str:
        """The SQL for the tables in `schema`."""
        return _render(self.text, schema)


@dataclass(frozen=True, slots=True)
class Plain:
    """A statement that is not ours: a projection's. It knows no schema of ours; its values are bound all the same."""

    name: str
    text: str

    def on(self, _schema: str) -> str:
        """The SQL as it is."""
        return self.text


def lock_object(schema: str) -> int:
    """The second half of the schema's advisory locks: a signed 32-bit hash of its name."""
    return int.from_bytes(crc32(schema.encode()).to_bytes(4), signed=True)


def channel(schema: str) -> str:
    """The channel that wakes the schema's relays."""
    return schema if schema == "fsm" else f"fsm_{lock_object(schema) & 0xFFFFFFFF:08x}"


@lru_cache(maxsize=512)
def _render(text: LiteralString, schema: str) -> str:
    return (
        sql.SQL(text)
        .format(
            s=sql.Identifier(schema),
            bell=sql.SQL("{}, {}").format(BELL_CLASS, lock_object(schema)),
            admission=sql.SQL("{}, {}").format(ADMISSION_CLASS, lock_object(schema)),
            channel=sql.Literal(channel(schema)),
        )
        .as_string(None)
    )
