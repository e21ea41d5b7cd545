"""What is known of a machine that does not move, as the database has it at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from fsm_core.records import MachineRecord
    from fsm_core.types import ActionId, ActionStatus


@dataclass(frozen=True, slots=True)
class Action:
    """An action that has not ended well. `holder`: the machine whose action has its lane. `lease`: that of its worker."""

    id: ActionId
    name: str
    version: int
    status: ActionStatus
    queue: str
    run_at: datetime
    attempt: int
    publishes: int
    timer: str | None = None
    lane: str | None = None
    limit: str | None = None
    limit_key: str | None = None
    published_at: datetime | None = None
    started_at: datetime | None = None
    error: str | None = None
    note: str | None = None
    worker: str | None = None
    lease: datetime | None = None
    holder: str | None = None
    known: bool = False
    """Whether its outcome is known already, and is only to be applied."""
    told: bool = False
    """Whether it has failed and the machine has had its `Failed`."""


@dataclass(frozen=True, slots=True)
class Limited:
    """A limit that an action is under: what it allows, and how many of its key have it now."""

    max_running: int | None
    rate: float | None
    per: timedelta | None
    running: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it. relays: how many are alive. queues: those that live workers serve. versions: which versions they read."""

    now: datetime
    record: MachineRecord
    actions: tuple[Action, ...]
    relays: int
    queues: frozenset[str]
    versions: Mapping[str, frozenset[int]]
    published: Mapping[str, int]
    """Rows published and not claimed, by queue."""
    limits: Mapping[tuple[str, str], Limited]
    """Those that are set, by name and key; a queue's is `queue:<queue>`, without a key."""
