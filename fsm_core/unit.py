"""A decision as rows: what one unit of work writes for one machine. Pure; the store writes it, all or nothing."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

from fsm_core.types import ActionId, ActionStatus, MachineStatus

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from uuid import UUID

    from fsm_core.inputs import Dedup
    from fsm_core.rows import NewAction


class Seen(NamedTuple):
    """A machine's row as it was read. `at` is the database's time, never before the last event."""

    id: UUID
    machine: str
    key: str
    version: int
    status: MachineStatus
    state_name: str
    state: str
    seq: int
    rev: int
    inbox: int
    at: datetime
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    parent: UUID | None = None
    parent_queue: str | None = None
    partition_key: str | None = None
    priority: int | None = None


class NewEvent(NamedTuple):
    """A row of the log."""

    seq: int
    name: str
    payload: str
    version: int
    outcome: str
    source: str
    cause: str | None
    call_id: UUID | None
    reason: str | None = None


class Held(NamedTuple):
    """An event that waits in the inbox for an edge. `pos` is None for one that is not written yet.

    ttl: how long it waits at most, where it is not for ever.
    """

    pos: int | None
    name: str
    payload: str
    version: int
    source: str
    cause: str | None
    dedup_key: str | None
    call_id: UUID | None
    ttl: timedelta | None = None


class Ending(NamedTuple):
    """An action that the unit finishes: guarded by the status `want` and the token `mine`."""

    id: ActionId
    want: ActionStatus
    mine: UUID
    to: ActionStatus
    outcome: str | None = None
    error: str | None = None
    note: str | None = None
    attempt: int = 0


class Birth(NamedTuple):
    """A child that is born with the unit; `payload` is what its `Spawn` shows. `child` None: its key was taken."""

    seq: int
    idx: int
    payload: str
    version: int
    queue: str
    child: Unit | None


class Rebased(NamedTuple):
    """A state that was read in the shape of an older version, as it is from `seq` on. `before` is the name it had."""

    seq: int
    version: int
    before: str
    state_name: str
    state: str


@dataclass
class Unit:
    """All that one decision writes, guarded by `seen.rev`."""

    seen: Seen
    version: int
    status: MachineStatus
    state_name: str
    state: str
    seq: int
    events: list[NewEvent] = field(default_factory=list)
    actions: list[NewAction] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    dedup: list[Dedup] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    """The names of timers that end without their event; those of an ended machine need not be named."""
    births: list[Birth] = field(default_factory=list)
    rebased: Rebased | None = None
    projected: list[object] = field(default_factory=list)
    """Statements of the application's own, from `@machine.project`."""

    def copied(self) -> Unit:
        """The same: what is added to one is not in the other."""
        other = copy(self)
        for each in fields(self):
            if isinstance(rows := getattr(self, each.name), list):
                setattr(other, each.name, [*rows])
        return other

    @property
    def ended(self) -> bool:
        """Whether the machine has ended with it."""
        return self.status not in (MachineStatus.LIVE, MachineStatus.UNBORN)

    @property
    def alone(self) -> bool:
        """Whether it takes more than one statement: then it is written under its machine's lock, in a transaction."""
        return bool(self.births or self.rebased or self.projected)

    @property
    def born(self) -> list[Unit]:
        """The units of all children that it bears, and of theirs."""
        children = [birth.child for birth in self.births if birth.child is not None]
        return [unit for child in children for unit in (child, *child.born)]

    @property
    def plain(self) -> bool:
        """One event and nothing but its actions: the fast statement does."""
        return (
            len(self.events) == 1 and not (self.held or self.taken or self.endings) and len(self.dedup) <= 1
        )
