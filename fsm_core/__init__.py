"""Durable finite-state machines: a pure core decides, Postgres remembers, Celery works.

Deciding: Machine, To, Untracked, Failed, Context, Route, Rejected, advance, begin, replay. Timers: After, At, Cancel, Timeout.
Several machines: Send, Spawn, ChildEnded, CancelChildren, Join. The application's own tables: Change.
Running effects: Effects, Attempt, Retry, Permanent, InDoubt, NotDone. Storing: `fsm_core.postgres`. Errors: `fsm_core.errors`.
"""

from fsm_core.context import Context
from fsm_core.decide import advance, begin, replay
from fsm_core.effects import Attempt, Effects, NotDone
from fsm_core.errors import FsmError, InDoubt, Permanent, Rejected, UnhandledEvent
from fsm_core.join import Join
from fsm_core.machine import Machine
from fsm_core.records import ActionRecord, HistoryEntry, Snapshot
from fsm_core.retry import Retry
from fsm_core.types import (
    ActionId,
    ActionStatus,
    After,
    At,
    Cancel,
    CancelChildren,
    Change,
    ChildEnded,
    Decision,
    Failed,
    Key,
    MachineStatus,
    Route,
    Send,
    Spawn,
    Timeout,
    To,
    Untracked,
)

__all__ = [
    "ActionId",
    "ActionRecord",
    "ActionStatus",
    "After",
    "At",
    "Attempt",
    "Cancel",
    "CancelChildren",
    "Change",
    "ChildEnded",
    "Context",
    "Decision",
    "Effects",
    "Failed",
    "FsmError",
    "HistoryEntry",
    "InDoubt",
    "Join",
    "Key",
    "Machine",
    "MachineStatus",
    "NotDone",
    "Permanent",
    "Rejected",
    "Retry",
    "Route",
    "Send",
    "Snapshot",
    "Spawn",
    "Timeout",
    "To",
    "UnhandledEvent",
    "Untracked",
    "advance",
    "begin",
    "replay",
]
