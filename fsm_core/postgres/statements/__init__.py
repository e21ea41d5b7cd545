"""Every SQL statement of the system, each in one named place with its purpose, its locks and the index that serves it.

`machines` has what reads and decides, `outbox` what a worker does to actions, `relay` what a relay does, `reads` what is
only looked at. Placeholders in braces are the schema's: `{s}` its name, `{bell}` the advisory lock of the relay on duty,
`{channel}` the channel that wakes it, `{tell}` what tells those who wait that the machine `m` has ended (`waiting`), `{machine}` the
columns of the machine `m` as `params.seen` reads them, with the time: never before the machine's last event. Advisory locks: class 0x46534D "FSM" = the bell, class 0x46534E = admission, class 0x46534D57 "FSMW" = waiting.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, LiteralString
from zlib import crc32

from psycopg import sql

from fsm_core.postgres.arrays import literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

BELL_CLASS = int.from_bytes(b"FSM")
ADMISSION_CLASS = BELL_CLASS + 1
WAITERS_CLASS = int.from_bytes(b"FSMW")

WAITERS_PLACES = 1024
"""How many of the server's locks all waiters together may take: its table is small, and one that is full refuses everybody."""

ANYBODY, ENDING = WAITERS_PLACES, WAITERS_PLACES + 1
"""Besides the places: the lock that everybody shares who listens, and the one that everybody shares who ends a machine."""

# Share ENDING until the end is visible, and see that nobody listens: nothing to tell. Else take the machine's place, alone; if that
# cannot be had, somebody waits there. Each CASE keeps its order: a test of ANYBODY before ENDING is shared would be too early.
_TELL = """CASE
         WHEN CASE WHEN pg_try_advisory_xact_lock_shared({cls}, {ending}) THEN
              CASE WHEN pg_try_advisory_lock({cls}, {anybody}) THEN pg_advisory_unlock({cls}, {anybody}) ELSE false END ELSE false END THEN NULL
         WHEN pg_try_advisory_xact_lock({cls}, ('x' || right(m.id::text, 8))::bit(32)::int & {mask}) THEN NULL
         ELSE pg_notify({ended}, m.id::text) END"""


_MACHINE = """m.id, m.fsm, m.key, m.version, m.status, m.state_name, m.state::text, m.seq, m.rev, m.inbox,
       greatest(clock_timestamp(), m.updated_at), m.created_at, m.updated_at, m.ended_at, m.parent, m.parent_queue, m.partition_key,
       m.priority"""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; `name` is what errors and traces call it."""

    name: str
    text: LiteralString

    def on(self, schema: str) -> str:
        """The SQL for the tables in `schema`."""
        return _render(self.text, schema)

    def bound(self, parameters: Mapping[str, object]) -> dict[str, object]:
        """The parameters as the driver is given them: a list is an array literal."""
        return {name: literal(of) if type(of) is list else of for name, of in parameters.items()}


@dataclass(frozen=True, slots=True)
class Plain:
    """A statement that is not ours: a projection's. It knows no schema of ours; its values are bound all the same."""

    name: str
    text: str

    def on(self, _schema: str) -> str:
        """The SQL as it is."""
        return self.text

    def bound(self, parameters: Mapping[str, object]) -> Mapping[str, object]:
        """The values as they are: the driver adapts what the application gave."""
        return parameters


def lock_object(schema: str) -> int:
    """The second half of the schema's advisory locks: a signed 32-bit hash of its name."""
    return int.from_bytes(crc32(schema.encode()).to_bytes(4), signed=True)


def channel(schema: str) -> str:
    """The channel that wakes the schema's relays."""
    return schema if schema == "fsm" else f"fsm_{lock_object(schema) & 0xFFFFFFFF:08x}"


def ended_channel(schema: str) -> str:
    """The channel that wakes those who wait for a machine of the schema to end."""
    return f"{channel(schema)}_ended"


def waiters_place(machine: UUID) -> int:
    """The second half of the lock of those who wait for `machine`: its last bits, which are random. As `{tell}` has it."""
    return machine.int % WAITERS_PLACES


@lru_cache(maxsize=512)
def _render(text: LiteralString, schema: str) -> str:
    return (
        sql.SQL(text)
        .format(
            s=sql.Identifier(schema),
            bell=sql.SQL("{}, {}").format(BELL_CLASS, lock_object(schema)),
            admission=sql.SQL("{}, {}").format(ADMISSION_CLASS, lock_object(schema)),
            channel=sql.Literal(channel(schema)),
            machine=sql.SQL(_MACHINE),
            tell=sql.SQL(_TELL).format(
                cls=WAITERS_CLASS,
                ending=ENDING,
                anybody=ANYBODY,
                mask=WAITERS_PLACES - 1,
                ended=sql.Literal(ended_channel(schema)),
            ),
            waiters_class=WAITERS_CLASS,
            anybody=sql.SQL("{}, {}").format(WAITERS_CLASS, ANYBODY),
            ending=sql.SQL("{}, {}").format(WAITERS_CLASS, ENDING),
            ended=sql.Literal(ended_channel(schema)),
            ended_name=sql.Identifier(ended_channel(schema)),
        )
        .as_string(None)
    )
