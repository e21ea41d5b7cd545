"""One machine as its store has it: the row, the log, the outbox. Plain data, read at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fsm_core.types import ActionStatus

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from fsm_core.unit import Seen

OPEN = (ActionStatus.BLOCKED, ActionStatus.PENDING, ActionStatus.PUBLISHED, ActionStatus.RUNNING)
"""The statuses of an action that has not finished."""


class Entry(NamedTuple):
    """An event of the log. seq 0 is the birth: its name and payload are those of the initial state."""

    seq: int
    name: str
    payload: str
    version: int
    outcome: str
    source: str
    reason: str | None
    occurred_at: datetime

    @property
    def refused(self) -> bool:
        """Whether it is a held event that its transition refused later: it changed nothing."""
        return self.outcome == "ignored" and self.reason is not None


class Base(NamedTuple):
    """A row of `snapshots`: the state right after event `seq`, as `version` has it. A replay may begin there."""

    seq: int
    version: int
    state_name: str
    state: str


class Row(NamedTuple):
    """A row of the outbox."""

    seq: int
    idx: int
    name: str
    version: int
    payload: str
    tracked: bool
    status: ActionStatus
    queue: str
    priority: int
    lane: str | None
    timer: str | None
    outcome: str | None
    limit_name: str | None = None
    limit_key: str | None = None


class Orphan(NamedTuple):
    """Rows of `table` that name a machine which does not exist."""

    machine_id: UUID
    table: str
    rows: int


@dataclass(frozen=True, slots=True)
class Log:
    """What is recorded of one machine.

    seen: its row. entries: its events, by seq. snapshots: by seq. rows: its actions, by id. held: how many rows its inbox
    has. A part of a log (of events up to one, say) is a log too, for those who ask for no more.
    """

    seen: Seen
    entries: tuple[Entry, ...]
    snapshots: tuple[Base, ...] = ()
    rows: tuple[Row, ...] = ()
    held: int = 0

    def upto(self, seq: int) -> Log:
        """The log as it was right after event `seq`; the outbox is left out, for its rows have moved on."""
        return Log(self.seen, tuple(entry for entry in self.entries if entry.seq <= seq), self.snapshots)
