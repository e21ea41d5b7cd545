"""Looking: `get`, `history`, lists of machines and actions. Nothing is locked, nothing is written."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from fsm_core.draft import Draft
from fsm_core.errors import ActionNotFound, MachineNotFound
from fsm_core.payload import shown
from fsm_core.postgres import params
from fsm_core.postgres.ask import Ask, Row
from fsm_core.postgres.flows.advance import one
from fsm_core.postgres.statements import machines as sql
from fsm_core.postgres.statements import reads
from fsm_core.records import ActionRecord, AttemptRecord, HistoryEntry, MachineRecord, Snapshot
from fsm_core.types import ActionId, MachineStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from fsm_core.registry import Registry
    from fsm_core.unit import Seen


async def get(registry: Registry, name: str, key: str) -> Snapshot[Any]:
    """The machine now. Raises MachineNotFound, UnknownMachine (its version is not registered here), InvalidPayload."""
    seen = await find_born(name, key)
    return Draft(registry.reader(seen.machine, seen.version), seen).snapshot


async def find(name: str, key: str) -> Seen:
    """The machine's row. Raises MachineNotFound."""
    row = await Ask(sql.READ, {"fsm": name, "key": key}, one)
    if row is None:
        raise MachineNotFound(name, key)
    return params.seen(row)


async def find_born(name: str, key: str) -> Seen:
    """The machine's row. Raises MachineNotFound, also if only a signal for it has come so far."""
    seen = await find(name, key)
    if seen.status is MachineStatus.UNBORN:
        raise MachineNotFound(name, key)
    return seen


async def record(name: str, key: str) -> MachineRecord:
    """The machine as JSON, whoever knows its classes. Raises MachineNotFound."""
    return as_record(await find(name, key))


async def machines(
    name: str | None = None, status: str | None = None, state: str | None = None, limit: int = 100
) -> list[MachineRecord]:
    """Machines, the last changed first."""
    parameters = {"fsm": name, "status": status, "state_name": state, "limit": limit}
    rows = await Ask(reads.MACHINES, parameters, list[Row])
    return [as_record(params.seen(row)) for row in rows]


async def history(name: str, key: str) -> list[HistoryEntry]:
    """The machine's log, each event with the actions that it caused and their attempts. Raises MachineNotFound."""
    seen = await find(name, key)
    log = await Ask(reads.EVENTS, {"id": seen.id}, list)
    by_seq: dict[int, list[ActionRecord]] = defaultdict(list)
    for action in await _with_attempts(await Ask(reads.ACTIONS, {"id": seen.id}, list), [seen.id]):
        by_seq[action.id.seq].append(action)
    return [_entry(row, by_seq[row[0]]) for row in log]


async def actions(
    *,
    status: str | None = None,
    name: str | None = None,
    key: str | None = None,
    action: str | None = None,
    queue: str | None = None,
    limit: int = 100,
) -> list[ActionRecord]:
    """Actions by status, machine name, key, action name and queue; the oldest first."""
    wanted = {"status": status, "fsm": name, "key": key, "name": action, "queue": queue, "limit": limit}
    rows = await Ask(reads.FIND_ACTIONS, wanted, list)
    return await _with_attempts(rows, list({row[0] for row in rows}))


async def action(wanted: ActionId) -> ActionRecord:
    """One action. Raises ActionNotFound."""
    row = await Ask(reads.ACTION, {"machine": wanted.machine_id, "seq": wanted.seq, "idx": wanted.idx}, one)
    if row is None:
        raise ActionNotFound(str(wanted))
    return (await _with_attempts([row], [wanted.machine_id]))[0]


async def _with_attempts(rows: Sequence[Row], machines: list[UUID]) -> list[ActionRecord]:
    made: dict[ActionId, list[AttemptRecord]] = defaultdict(list)
    for row in await Ask(reads.ATTEMPTS, {"ids": machines}, list):
        owner, attempt = params.attempt(row)
        made[owner].append(attempt)
    return [params.record(row, made[ActionId(row[0], row[1], row[2])]) for row in rows]


def as_record(seen: Seen) -> MachineRecord:
    """A row as JSON."""
    return MachineRecord(
        seen.machine, seen.key, seen.id, seen.version, seen.status, seen.state_name, shown(seen.state or "{}"), seen.seq,
        seen.inbox, seen.created_at, seen.updated_at, seen.ended_at,
    )  # fmt: skip


def _entry(row: Row, caused: list[ActionRecord]) -> HistoryEntry:
    return HistoryEntry(
        seq=row[0], name=row[1], payload=shown(row[2]), outcome=row[3], source=row[4],
        occurred_at=params.utc(row[5]), reason=params.said(row[6]), actions=tuple(caused),
    )  # fmt: skip
