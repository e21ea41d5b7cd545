"""Units and rows as the parameters of the statements, and the statements' rows as values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fsm_core.load import Load
from fsm_core.payload import refuse_sealed, shown, why_sealed
from fsm_core.postgres.ask import Ask, Row
from fsm_core.postgres.statements import family
from fsm_core.postgres.statements import machines as sql
from fsm_core.postgres.statements.load import READ_LOAD
from fsm_core.records import ActionRecord, AttemptRecord
from fsm_core.rows import STATE_TIMER
from fsm_core.types import ActionId, ActionStatus, MachineStatus
from fsm_core.unit import Held, Seen, Unit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from fsm_core.payload import Limits
    from fsm_core.rows import NewAction

_KEY_TAKEN = msgspec.json.encode({"message": "the key is taken"}).decode()

_ACTION_COLUMNS = (
    "idx",
    "name",
    "payload",
    "tracked",
    "status",
    "queue",
    "priority",
    "lane",
    "delay",
    "timer",
    "outcome",
    "limit_name",
    "limit_key",
)


MACHINE_COLUMNS = 18
"""How many `{machine}` stands for."""


class Known(NamedTuple):
    """What a dedup key did: the `seq` of its event (None: it is held yet) and the digest of its content."""

    seq: int | None
    digest: bytes


def utc(value: datetime) -> datetime:
    """The same instant in UTC: whatever the session's time zone is, a replay must see the same value."""
    return value.astimezone(UTC)


def _utc_or_none(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


def seen(row: Row) -> Seen:
    """The machine of a row that begins with `{machine}`."""
    return Seen(
        id=row[0], machine=row[1], key=row[2], version=row[3], status=MachineStatus(row[4]), state_name=row[5] or "", state=row[6] or "",
        seq=row[7], rev=row[8], inbox=row[9], at=utc(row[10]), created_at=utc(row[11]), updated_at=utc(row[12]),
        ended_at=_utc_or_none(row[13]), parent=row[14], parent_queue=row[15],
        partition_key=row[16], priority=row[17],
    )  # fmt: skip


def known(row: Row) -> Known | None:
    """What the dedup key of a READ row did before, if anything. Raises Sealed: nobody here can tell."""
    columns = row[MACHINE_COLUMNS:]
    found = Known(columns[1], bytes(columns[2])) if columns and columns[0] is not None else None
    if found is not None:
        refuse_sealed(found.digest.decode(errors="replace"), "the dedup key")
    return found


Place = tuple[str, str | None]
"""A machine's key, with a dedup key if there is one."""


def read_keys(machine: str, places: Sequence[Place], limits: Limits, *, capped: bool) -> Ask[list[Row]]:
    """Rows as of READ_DEDUP, with which of `places` they are for; `capped`: each with its machine's load."""
    parameters: dict[str, object] = {
        "fsm": machine, "keys": [key for key, _ in places], "dedups": [dedup for _, dedup in places],
    }  # fmt: skip
    if not capped:
        return Ask(sql.READ_KEYS, parameters, list)
    caps = {"events": limits.events, "per": limits.per, "open": limits.open}
    return Ask(READ_LOAD, {**parameters, **caps}, list)


def place(row: Row) -> int:
    """Which of its places a row of `read_keys` is for, from 0."""
    return int(row[MACHINE_COLUMNS + 3]) - 1


def load(row: Row) -> Load:
    """The load of a row that `read_keys` read."""
    return Load(*row[-2:])


def held(row: Row) -> Held:
    """A row of the inbox."""
    return Held(*row)


def write_one(unit: Unit) -> Ask[bool]:
    """Write a plain unit; the answer is whether its guard held."""
    (event,) = unit.events
    dedup = unit.dedup[0] if unit.dedup else None
    parameters: dict[str, object] = {
        **_machine(unit),
        "id": unit.seen.id, "rev": unit.seen.rev, "name": event.name, "payload": event.payload, "outcome": event.outcome,
        "source": event.source, "cause": event.cause, "call_id": event.call_id, "dedup": dedup and dedup.key,
        "digest": dedup and dedup.digest, **actions(unit.actions), "cancelled": unit.cancelled,
    }  # fmt: skip
    return Ask(sql.WRITE_ONE, parameters, bool)


def start(unit: Unit, source: str, call_id: UUID, wait: str | None) -> Ask[bool]:
    """Write a birth; the answer is whether it happened: False, if the address is taken. `wait`: the lock_timeout to set."""
    given = unit.seen
    parameters: dict[str, object] = {
        **_machine(unit), "id": given.id, "fsm": given.machine, "key": given.key, "source": source, "call_id": call_id,
        "wait": wait, "partition_key": given.partition_key, "machine_priority": given.priority, **actions(unit.actions),
    }  # fmt: skip
    return Ask(sql.START, parameters, bool)


def write_many(units: Sequence[Unit]) -> Ask[set[int]]:
    """Write units; the answer is the positions of those whose guards held."""
    parameters: dict[str, object] = {
        **_heads(units), **_endings(units), **_events(units), **_inbox(units), **_dedup(units), **_actions(units),
        **_timers(units)
    }  # fmt: skip
    return Ask(sql.WRITE_MANY, parameters, lambda rows: {row[0] for row in rows})


def spawn(unit: Unit) -> Ask[int]:
    """Write the children of a unit and the rows that tell of them; the answer is how many were born."""
    told = [(each, birth) for each in (unit, *unit.born) for birth in each.births]
    causes = {
        birth.child.seen.id: str(ActionId(each.seen.id, birth.seq, birth.idx))
        for each, birth in told
        if birth.child
    }
    rows = [(child, action) for child in unit.born for action in child.actions]
    columns = ("version", *_ACTION_COLUMNS)
    parameters: dict[str, object] = {
        **_children(unit.born), "cause": [causes[child.seen.id] for child in unit.born],
        "p_parent": [each.seen.id for each, _ in told], "p_seq": [b.seq for _, b in told], "p_idx": [b.idx for _, b in told],
        "p_version": [b.version for _, b in told], "p_payload": [b.payload for _, b in told],
        "p_status": [(ActionStatus.COMPLETED if b.child else ActionStatus.FAILED).value for _, b in told],
        "p_queue": [b.queue for _, b in told], "p_error": [None if b.child else _KEY_TAKEN for _, b in told],
        "p_at": [each.seen.at for each, _ in told],
        "a_machine": [child.seen.id for child, _ in rows], "a_at": [child.seen.at for child, _ in rows],
        **{f"a_{column}": [getattr(action, column) for _, action in rows] for column in columns},
    }  # fmt: skip
    return Ask(family.SPAWN, parameters, lambda answer: int(answer[0][0]))


def _children(born: Sequence[Unit]) -> dict[str, object]:
    return {
        "id": [u.seen.id for u in born], "fsm": [u.seen.machine for u in born], "key": [u.seen.key for u in born],
        "version": [u.version for u in born], "status": [u.status.value for u in born],
        "state_name": [u.state_name for u in born], "state": [u.state for u in born], "parent": [u.seen.parent for u in born],
        "parent_queue": [u.seen.parent_queue for u in born],
        "at": [u.seen.at for u in born], "ended": [u.ended for u in born],
    }  # fmt: skip


def rebase(unit: Unit) -> Ask[int]:
    """Write the state that an older version wrote in its present shape."""
    now = unit.rebased
    assert now is not None  # noqa: S101 - for mypy; the caller has asked
    parameters: dict[str, object] = {
        "id": unit.seen.id, "seq": now.seq, "version": now.version, "state_name": now.state_name, "state": now.state,
        "before": f"{STATE_TIMER}{now.before}", "after": f"{STATE_TIMER}{now.state_name}",
    }  # fmt: skip
    return Ask(family.REBASE, parameters, len)


def left_behind(rows: Sequence[NewAction]) -> dict[str, list[Any]]:
    """The columns of the rows that a cancelled machine leaves, as arrays."""
    columns = ("idx", "name", "version", "payload", "queue", "priority", "outcome")
    return {f"n_{column}": [getattr(row, column) for row in rows] for column in columns}


def _machine(unit: Unit) -> dict[str, object]:
    return {
        "state": unit.state, "state_name": unit.state_name, "version": unit.version, "status": unit.status.value,
        "ended": unit.ended, "at": unit.seen.at,
    }  # fmt: skip


def actions(rows: Sequence[NewAction]) -> dict[str, list[Any]]:
    """The columns of one unit's actions, as arrays."""
    return {f"a_{column}": [getattr(row, column) for row in rows] for column in _ACTION_COLUMNS}


def _heads(units: Sequence[Unit]) -> dict[str, object]:
    return {
        "unit": list(range(len(units))), "id": [u.seen.id for u in units], "rev": [u.seen.rev for u in units],
        "state": [u.state for u in units], "state_name": [u.state_name for u in units],
        "version": [u.version for u in units], "status": [u.status.value for u in units],
        "ended": [u.ended for u in units], "seq": [u.seq for u in units], "at": [u.seen.at for u in units],
        "inbox": [len(u.held) - len(u.taken) for u in units],
    }  # fmt: skip


def _endings(units: Sequence[Unit]) -> dict[str, object]:
    rows = [(n, ending) for n, unit in enumerate(units) for ending in unit.endings]
    return {
        "f_unit": [n for n, _ in rows], "f_machine": [e.id.machine_id for _, e in rows], "f_seq": [e.id.seq for _, e in rows],
        "f_idx": [e.id.idx for _, e in rows], "f_want": [e.want.value for _, e in rows], "f_mine": [e.mine for _, e in rows],
        "f_to": [e.to.value for _, e in rows], "f_outcome": [e.outcome for _, e in rows],
        "f_error": [e.error for _, e in rows], "f_note": [e.note for _, e in rows], "f_attempt": [e.attempt for _, e in rows],
    }  # fmt: skip


def _events(units: Sequence[Unit]) -> dict[str, object]:
    rows = [(n, event) for n, unit in enumerate(units) for event in unit.events]
    columns = ("seq", "name", "payload", "version", "outcome", "source", "cause", "call_id", "reason")
    return {**_of("e", units, rows), **{f"e_{c}": [getattr(e, c) for _, e in rows] for c in columns}}


def _inbox(units: Sequence[Unit]) -> dict[str, object]:
    added = [(n, row) for n, unit in enumerate(units) for row in unit.held]
    gone = [(n, pos) for n, unit in enumerate(units) for pos in unit.taken]
    columns = ("name", "payload", "version", "source", "cause", "call_id", "ttl")
    return {
        "g_unit": [n for n, _ in gone], "g_machine": [units[n].seen.id for n, _ in gone], "g_pos": [pos for _, pos in gone],
        **_of("i", units, added),
        "i_dedup": [row.dedup_key for _, row in added], **{f"i_{c}": [getattr(r, c) for _, r in added] for c in columns},
    }  # fmt: skip


def _dedup(units: Sequence[Unit]) -> dict[str, object]:
    rows = [(n, known) for n, unit in enumerate(units) for known in unit.dedup]
    return {
        **_of("d", units, rows), "d_key": [d.key for _, d in rows], "d_digest": [d.digest for _, d in rows],
        "d_seq": [d.seq for _, d in rows],
    }  # fmt: skip


def _timers(units: Sequence[Unit]) -> dict[str, object]:
    rows = [(n, name) for n, unit in enumerate(units) for name in unit.cancelled]
    return {"t_unit": [n for n, _ in rows], "t_name": [name for _, name in rows]}


def _actions(units: Sequence[Unit]) -> dict[str, object]:
    rows = [(n, action) for n, unit in enumerate(units) for action in unit.actions]
    columns = ("seq", "version", *_ACTION_COLUMNS)
    return {
        **_of("a", units, rows), **{f"a_{c}": [getattr(a, c) for _, a in rows] for c in columns},
        "a_token": [a.claim and a.claim.token for _, a in rows], "a_worker": [a.claim and a.claim.worker for _, a in rows],
    }  # fmt: skip


def _of(table: str, units: Sequence[Unit], rows: Sequence[tuple[int, object]]) -> dict[str, object]:
    """Whose the rows of a table are: their units, with the machines and the times of those."""
    return {
        f"{table}_unit": [n for n, _ in rows], f"{table}_machine": [units[n].seen.id for n, _ in rows],
        f"{table}_at": [units[n].seen.at for n, _ in rows],
    }  # fmt: skip


def keys(ids: Sequence[ActionId]) -> dict[str, list[Any]]:
    """Action ids as three arrays."""
    return {"machine": [i.machine_id for i in ids], "seq": [i.seq for i in ids], "idx": [i.idx for i in ids]}


def record(row: Row, attempts: Sequence[AttemptRecord] = ()) -> ActionRecord:
    """The action of an ACTIONS row; its last attempt, where it is not among `attempts`, is made from the row itself."""
    status, number, started = ActionStatus(row[5]), row[8], _utc_or_none(row[14])
    known = list(attempts)
    if (
        started is not None
        and number > 0
        and status in (ActionStatus.RUNNING, ActionStatus.COMPLETED, ActionStatus.FAILED)
    ) and not any(a.number == number for a in known):
        outcome = None if status is ActionStatus.RUNNING else status.value
        known.append(AttemptRecord(number, outcome, started, _utc_or_none(row[11]), message(row[12])))
    return ActionRecord(
        id=ActionId(row[0], row[1], row[2]), name=row[3], payload=shown(row[4]), status=status, tracked=row[6],
        queue=row[7], attempt=number, created_at=utc(row[9]), run_at=utc(row[10]), finished_at=_utc_or_none(row[11]),
        error=message(row[12]), note=said(row[13]), attempts=tuple(known), machine=row[15], key=row[16],
    )  # fmt: skip


def attempt(row: Row) -> tuple[ActionId, AttemptRecord]:
    """An ATTEMPTS row with the action it belongs to."""
    return ActionId(row[0], row[1], row[2]), AttemptRecord(
        row[3], row[4], utc(row[5]), _utc_or_none(row[6]), message(row[7])
    )


def message(error: str | None) -> str | None:
    """What stands in an error column; of one that is encrypted still, why."""
    if error is None or why_sealed(error):
        return said(error)
    found: str | None = msgspec.json.decode(error).get("message")
    return found


def said(text: str | None) -> str | None:
    """A reason or a note; of one that is encrypted still, why."""
    reason = None if text is None else why_sealed(text)
    return text if reason is None else f"sealed: {reason}"
