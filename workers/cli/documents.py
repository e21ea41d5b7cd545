"""What `--json` prints: the store's records as JSON documents. These keys are a promise; times are ISO 8601 in UTC."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TypeAlias

from fsm_core.check import Finding
from fsm_core.codec import encode
from fsm_core.records import ActionRecord, AttemptRecord, HistoryEntry, MachineRecord, Receipt, Snapshot

Document: TypeAlias = dict[str, object]


def machine(record: MachineRecord) -> Document:
    """A machine's row."""
    return {
        "machine": record.machine,
        "key": record.key,
        "id": str(record.id),
        "version": record.version,
        "status": record.status.value,
        "state_name": record.state_name,
        "state": record.state,
        "seq": record.seq,
        "held_events": record.held,
        "created_at": iso(record.created_at),
        "updated_at": iso(record.updated_at),
        "ended_at": iso(record.ended_at),
    }


def snapshot(now: Snapshot[Any]) -> Document:
    """The answer of `start` and `send`."""
    return {
        "machine": now.machine,
        "key": now.key,
        "id": str(now.id),
        "version": now.version,
        "status": now.status.value,
        "state_name": type(now.state).__name__,
        "state": json.loads(encode(now.state, "state")),
        "seq": now.seq,
        "duplicate": now.duplicate,
        "held": now.held,
        "created_at": iso(now.created_at),
        "updated_at": iso(now.updated_at),
        "ended_at": iso(now.ended_at),
    }


def receipt(taken: Receipt) -> Document:
    """The answer of `signal`; `seq` is null while it waits."""
    return {
        "machine": taken.machine,
        "key": taken.key,
        "id": str(taken.id),
        "seq": taken.seq,
        "held": taken.held,
        "duplicate": taken.duplicate,
        "unborn": taken.unborn,
    }


def event(entry: HistoryEntry) -> Document:
    """One event of the log with its actions."""
    return {
        "seq": entry.seq,
        "name": entry.name,
        "payload": entry.payload,
        "outcome": entry.outcome,
        "source": entry.source,
        "reason": entry.reason,
        "occurred_at": iso(entry.occurred_at),
        "actions": [action(caused) for caused in entry.actions],
    }


def action(record: ActionRecord) -> Document:
    """One action with its attempts."""
    return {
        "id": str(record.id),
        "machine": record.machine,
        "key": record.key,
        "name": record.name,
        "payload": record.payload,
        "status": record.status.value,
        "tracked": record.tracked,
        "queue": record.queue,
        "attempt": record.attempt,
        "error": record.error,
        "note": record.note,
        "created_at": iso(record.created_at),
        "run_at": iso(record.run_at),
        "finished_at": iso(record.finished_at),
        "attempts": [attempt(made) for made in record.attempts],
    }


def attempt(record: AttemptRecord) -> Document:
    """One start of an effect; `duration` is in seconds."""
    return {
        "number": record.number,
        "outcome": record.outcome,
        "started_at": iso(record.started_at),
        "ended_at": iso(record.ended_at),
        "duration": duration(record),
        "error": record.error,
    }


def finding(found: Finding) -> Document:
    """What `check` found; `accepted` is the reason, or null. The values of `code` are a promise too."""
    return {
        "code": found.code.value,
        "place": found.place,
        "subject": found.subject,
        "message": found.message,
        "accepted": found.accepted,
    }


def duration(record: AttemptRecord) -> float | None:
    """Seconds that the attempt took; None while it runs."""
    return None if record.ended_at is None else (record.ended_at - record.started_at).total_seconds()


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC, always with microseconds."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds")
