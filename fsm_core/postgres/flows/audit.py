"""Whole records of machines, for `fsm_core.audit`: what it asks for is read here, at one moment."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from fsm_core.audit import Base, Diff, Entry, Log, Orphan, Row, diff, lost, nearest, preview, state_at
from fsm_core.postgres import params
from fsm_core.postgres.ask import Ask
from fsm_core.postgres.ask import Row as Columns
from fsm_core.postgres.flows.advance import one
from fsm_core.postgres.flows.look import find, find_born
from fsm_core.postgres.statements import audit as sql
from fsm_core.postgres.statements import machines
from fsm_core.types import ActionId, ActionStatus, Decision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from fsm_core.payload import Limits
    from fsm_core.postgres.statements import Statement
    from fsm_core.records import Snapshot
    from fsm_core.registry import Registry
    from fsm_core.unit import Seen

T = TypeVar("T")

PAGE_MACHINES = 500
PAGE_EVENTS = 5000
"""How much one page has: so many machines at most, and no other one after so many events."""

NOBODY = UUID(int=0)


async def one_snapshot() -> None:
    """All that follows in this transaction sees the rows of one moment. Comes first."""
    await Ask(sql.ONE_SNAPSHOT, {}, len)
    await Ask(sql.BY_KEY, {}, len)


async def dry_run(
    registry: Registry, name: str, key: str, event: object, limits: Limits
) -> Decision[Any, Any]:
    """What `event` would do now. Raises MachineNotFound, UnknownMachine, and the refusals of a decision."""
    seen = await find_born(name, key)
    return preview(registry.reader(seen.machine, seen.version), seen, event, limits)


async def log(name: str, key: str) -> Log:
    """The whole record of one machine. Raises MachineNotFound."""
    return (await _logs([await find(name, key)]))[0]


async def logs(names: Sequence[str] | None, since: timedelta | None, after: UUID | None) -> list[Log]:
    """The records of the next machines by id, after `after`; none: that was all."""
    parameters = {
        "names": None if names is None else list(names), "since": since, "after": after or NOBODY, "limit": PAGE_MACHINES,
        "events": PAGE_EVENTS,
    }  # fmt: skip
    return await _logs(await Ask(sql.PAGE, parameters, lambda rows: [params.seen(row) for row in rows]))


async def count(names: Sequence[str] | None, since: timedelta | None) -> int:
    """How many machines `logs` goes through."""
    parameters = {"names": None if names is None else list(names), "since": since}
    row = await Ask(sql.COUNT, parameters, one)
    return 0 if row is None else int(row[0])


async def orphans(after: UUID | None, to: UUID | None) -> list[Orphan]:
    """Rows without a machine, of ids after `after` and up to `to`."""
    parameters = {"after": after or NOBODY, "to": to}
    return [Orphan(*row) for row in await Ask(sql.ORPHANS, parameters, list[Columns])]


async def at(registry: Registry, name: str, key: str, seq: int) -> Snapshot[Any]:
    """The machine right after event `seq`. Raises MachineNotFound, EventNotFound, ReplayFailed, UnknownMachine."""
    return state_at(await _part(name, key, seq, seq), seq, registry.reader)


async def between(registry: Registry, name: str, key: str, from_seq: int, to_seq: int) -> Diff[Any]:
    """What differs between two states. Raises as `at` does."""
    first, last = sorted((from_seq, to_seq))
    return diff(await _part(name, key, first, last), from_seq, to_seq, registry.reader)


async def restore(registry: Registry, name: str, key: str) -> list[ActionId]:
    """Write again what the outbox has lost, under the machine's lock. Returns the actions. Raises as `audit.lost` does."""
    await Ask(machines.LOCK, {"fsm": name, "key": key}, len)
    seen = await find_born(name, key)
    found = lost((await _logs([seen]))[0], registry)
    columns = (
        "seq", "idx", "name", "version", "payload", "tracked", "status", "queue", "priority", "lane", "limit_name", "limit_key",
    )  # fmt: skip
    parameters = {
        "id": seen.id, "a_created_at": [each.created_at for each in found],
        **{f"a_{column}": [getattr(each.row, column) for each in found] for column in columns},
    }  # fmt: skip
    return [ActionId(seen.id, *row[:2]) for row in await Ask(sql.RESTORE, parameters, list[Columns])]


async def _part(name: str, key: str, first: int, last: int) -> Log:
    """What is needed to replay the states right after events `first` and `last`, and no more."""
    seen = await find_born(name, key)
    first, last = (
        max(0, min(seq, seen.seq)) for seq in (first, last)
    )  # what is beyond any int is not in the log either
    bases = (await _by_machine(sql.SNAPSHOTS, {"ids": [seen.id], "to": last}, _base))[seen.id]
    base = nearest(Log(seen, (), tuple(bases)), first)
    asked = {"ids": [seen.id], "from": 0 if base is None else base.seq, "to": last}
    return Log(seen, tuple((await _by_machine(sql.ENTRIES, asked, _entry))[seen.id]), tuple(bases))


async def _logs(seen: Sequence[Seen]) -> list[Log]:
    ids = {"ids": [each.id for each in seen]}
    entries = await _by_machine(sql.ENTRIES, {**ids, "from": 0, "to": None}, _entry)
    bases = await _by_machine(sql.SNAPSHOTS, {**ids, "to": None}, _base)
    rows = await _by_machine(sql.ROWS, ids, _row)
    held = await Ask(sql.HELD, ids, lambda rows: {row[0]: int(row[1]) for row in rows})
    return [
        Log(each, tuple(entries[each.id]), tuple(bases[each.id]), tuple(rows[each.id]), held.get(each.id, 0))
        for each in seen
    ]


async def _by_machine(
    statement: Statement, parameters: dict[str, Any], reads: Callable[[Columns], T]
) -> dict[UUID, list[T]]:
    found: dict[UUID, list[T]] = defaultdict(list)
    for row in await Ask(statement, parameters, list[Columns]):
        found[row[0]].append(reads(row))
    return found


def _entry(row: Columns) -> Entry:
    return Entry(*row[1:])._replace(occurred_at=params.utc(row[8]))


def _base(row: Columns) -> Base:
    return Base(*row[1:])


def _row(row: Columns) -> Row:
    return Row(*row[1:])._replace(status=ActionStatus(row[7]))
