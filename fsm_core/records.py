"""What stores answer. Stdlib only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from fsm_core.types import S_co

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from fsm_core.types import ActionId, ActionStatus, MachineStatus


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[S_co]):
    """A machine as it was right after an event: the answer of `start`, `advance` and `get`.

    `seq` counts its events (0 is its birth). `duplicate`: this call changed nothing, because its key or dedup key had
    come before; `seq` is then the one that the first call got. `held`: the event waits in the inbox for an edge.
    """

    machine: str
    key: str
    id: UUID
    version: int
    state: S_co
    seq: int
    status: MachineStatus
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None = None
    duplicate: bool = False
    held: bool = False


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """A machine as its row has it; `state` is its JSON object. For tools that do not know its classes."""

    machine: str
    key: str
    id: UUID
    version: int
    status: MachineStatus
    state_name: str
    state: dict[str, object]
    seq: int
    held: int
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One start of an effect. `outcome` is None while it runs."""

    number: int
    outcome: str | None
    started_at: datetime
    ended_at: datetime | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """One action as the store knows it. `payload` is its JSON object."""

    id: ActionId
    name: str
    payload: dict[str, object]
    status: ActionStatus
    tracked: bool
    queue: str
    attempt: int
    created_at: datetime
    run_at: datetime
    finished_at: datetime | None
    error: str | None
    note: str | None
    attempts: tuple[AttemptRecord, ...] = ()
    machine: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One event of a machine's log with the actions that it caused. seq 0 is the birth: its payload is the initial state."""

    seq: int
    name: str
    payload: dict[str, object]
    outcome: str
    source: str
    occurred_at: datetime
    reason: str | None = None
    actions: tuple[ActionRecord, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a signal. `seq`: of the event that it is in the log; None while it is held, for an edge to take it.

    `duplicate`: its dedup key had come before, nothing changed; `seq` is then what the first one has by now. `unborn`: the
    machine does not exist yet.
    """

    machine: str
    key: str
    id: UUID
    seq: int | None
    duplicate: bool = False
    unborn: bool = False

    @property
    def held(self) -> bool:
        """Whether it waits in the inbox."""
        return self.seq is None


def receipt(snapshot: Snapshot[Any]) -> Receipt:
    """What the answer of a decision is for a signal."""
    seq = None if snapshot.held else snapshot.seq
    return Receipt(snapshot.machine, snapshot.key, snapshot.id, seq, snapshot.duplicate)
