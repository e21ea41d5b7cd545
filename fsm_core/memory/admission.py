"""What the relay's admission and a queue's limit let through, on the tables in memory: as the statements do it on PostgreSQL."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fsm_core.limits import ALMOST, Limit, next_token, refilled
from fsm_core.memory.tables import BucketRow
from fsm_core.types import QUEUE_LIMIT, ActionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from fsm_core.memory.tables import ActionRow, Tables

ACTIVE = (ActionStatus.PENDING, ActionStatus.PUBLISHED, ActionStatus.RUNNING)
UNKNOWN = "waits for a limit that nobody has set: "
ANY = 2**31


class Gate:
    """One limit's key, or one queue's limit, at one moment. `room`: how many more it lets through now."""

    def __init__(self, tables: Tables, limit: Limit, key: str, taken: int) -> None:
        self._tables, self._limit, self._of = tables, limit, (limit.name, key)
        self._slots = ANY if limit.max_running is None else limit.max_running - taken
        kept, now = tables.buckets.get(self._of), tables.clock.now()
        full = float(limit.burst or 0)
        self._tokens = full if kept is None else refilled(limit, kept.tokens, now - kept.refilled_at)

    @property
    def room(self) -> int:
        """As it says."""
        tokens = ANY if self._limit.rate is None else int(self._tokens + ALMOST)
        return max(0, min(self._slots, tokens))

    def take(self) -> None:
        """One goes through."""
        self._slots -= 1
        if self._limit.rate is not None:
            self._tokens -= 1
            self._tables.buckets[self._of] = BucketRow(self._tokens, self._tables.clock.now())

    def opens(self) -> datetime | None:
        """From when on it lets one through; None: not by time alone."""
        return None if self._slots <= 0 else self._tables.clock.now() + next_token(self._limit, self._tokens)


def admit(tables: Tables) -> None:
    """Admit the first row of each lane that is free, and what limits leave room for, the most urgent first."""
    now, gates = tables.clock.now(), _gates(tables)
    for row in sorted(_heads(tables), key=_urgency):
        if row.limit_name is not None and row.limit_name not in tables.limits:
            row.note = f"{UNKNOWN}{row.limit_name}"
        elif row.run_at <= now and (gate := gates(row)) is not None:
            if gate.room:
                gate.take()
                _through(row)
        elif row.run_at <= now:
            _through(row)


def of_queue(tables: Tables, queue: str) -> Gate | None:
    """The limit of a whole queue; None: it has none."""
    limit = tables.limits.get(f"{QUEUE_LIMIT}{queue}")
    if limit is None:
        return None
    out = (ActionStatus.PUBLISHED, ActionStatus.RUNNING)
    return Gate(tables, limit, "", sum(r.queue == queue and r.status in out for r in tables.actions.values()))


def opens(tables: Tables, served: Callable[[ActionRow], bool]) -> Iterator[datetime]:
    """When time alone lets through what is held back now and is `served`."""
    gates = _gates(tables)
    for row in filter(served, _heads(tables)):
        known = row.limit_name is None or row.limit_name in tables.limits
        gate = gates(row) if known else None
        at = gate.opens() if gate is not None else row.run_at if known else None
        if at is not None:
            yield max(at, row.run_at)


def _heads(tables: Tables) -> Iterator[ActionRow]:
    """The rows that are blocked by nothing but their time and their limit."""
    rows = tables.actions.values()
    taken = {row.lane for row in rows if row.lane is not None and row.status in ACTIVE}
    for row in rows:
        if row.status is ActionStatus.BLOCKED and (row.lane is None or row.lane not in taken):
            if row.lane is not None:
                taken.add(row.lane)
            yield row


def _gates(tables: Tables) -> Callable[[ActionRow], Gate | None]:
    """The gate of a row's limit, the same one for every row of its key; None: it has no limit."""
    taken = Counter((r.limit_name, r.limit_key) for r in tables.actions.values() if r.status in ACTIVE)
    made: dict[tuple[str, str], Gate] = {}

    def gate(row: ActionRow) -> Gate | None:
        if row.limit_name is None:
            return None
        of = (row.limit_name, row.limit_key or "")
        if of not in made:
            made[of] = Gate(tables, tables.limits[row.limit_name], of[1], taken[of])
        return made[of]

    return gate


def _through(row: ActionRow) -> None:
    row.status = ActionStatus.PENDING
    if row.note == f"{UNKNOWN}{row.limit_name}":
        row.note = None


def _urgency(row: ActionRow) -> tuple[int, datetime]:
    return row.priority, row.run_at
