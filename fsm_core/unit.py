"""A decision as rows: what one unit of work writes for one machine. Pure; the store writes it, all or nothing.

A `Draft` is a unit in the making: it takes events one by one, in memory, and a refused event leaves nothing in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from fsm_core.codec import DEFAULT_LIMITS, Limits, decode_named, encode
from fsm_core.context import Context
from fsm_core.decide import advance, begin
from fsm_core.errors import InboxFull, MachineEnded, Rejected, UnhandledEvent
from fsm_core.inputs import Dedup
from fsm_core.rows import STATE_TIMER, Moment, NewAction, Written, state_timer, written
from fsm_core.types import ActionId, ActionStatus, MachineStatus, Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from fsm_core.machine import Machine
    from fsm_core.types import Decision

MAX_INBOX = 1000


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
    """An event that waits in the inbox for an edge. `pos` is None for one that is not written yet."""

    pos: int | None
    name: str
    payload: str
    version: int
    source: str
    cause: str | None
    dedup_key: str | None
    call_id: UUID | None


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

    @property
    def ended(self) -> bool:
        """Whether the machine has ended with it."""
        return self.status not in (MachineStatus.LIVE, MachineStatus.UNBORN)

    @property
    def plain(self) -> bool:
        """One event and nothing but its actions: the fast statement does."""
        return (
            len(self.events) == 1 and not (self.held or self.taken or self.endings) and len(self.dedup) <= 1
        )


class Draft:
    """A unit in the making for one machine. Every method that raises leaves the draft as it was."""

    def __init__(self, machine: Machine[Any, Any, Any], seen: Seen, limits: Limits = DEFAULT_LIMITS) -> None:
        self.machine = machine
        self.state: Any = decode_named(machine, "state", seen.state_name, seen.state)
        self.changed = False
        self.refused: list[tuple[Held, Exception]] = []
        self._limits = limits
        self._unit = Unit(seen, seen.version, seen.status, seen.state_name, seen.state, seen.seq)

    @property
    def unit(self) -> Unit:
        """The unit so far."""
        return self._unit

    @property
    def snapshot(self) -> Snapshot[Any]:
        """The machine as it stands in the draft."""
        unit = self._unit
        updated = unit.seen.at if unit.events else unit.seen.updated_at
        ended = unit.seen.ended_at or (unit.seen.at if unit.ended else None)
        return Snapshot(
            unit.seen.machine, unit.seen.key, unit.seen.id, unit.version, self.state, unit.seq, unit.status,
            unit.seen.created_at, updated, ended, held=bool(unit.held) and not unit.events,
        )  # fmt: skip

    def apply(
        self,
        event: object,
        source: str,
        *,
        cause: str | None = None,
        call_id: UUID | None = None,
        dedup: Dedup | None = None,
    ) -> None:
        """Take `event`: a new event of the log with its actions, or a held one under the policy "defer".

        Raises MachineEnded, UnknownType, InvalidPayload, UnhandledEvent, Rejected, InboxFull, TransitionError, and
        whatever the transition raises.
        """
        unit, machine = self._unit, self.machine
        name = machine.event_name(event)
        payload = encode(event, f"event {name}", self._limits)
        if unit.ended and not machine.is_final(self.state):
            raise MachineEnded(unit.seen.machine, unit.seen.key, unit.status)
        taken = machine.takes(self.state, event)
        if not taken and machine.unhandled == "defer":
            self._hold(
                Held(None, name, payload, machine.version, source, cause, dedup and dedup.key, call_id), dedup
            )
            return
        seq = unit.seq + 1
        decision = advance(machine, self.state, event, context(unit.seen, seq))
        outbox = self._outbox(seq, decision)
        state_name, state = machine.state_name(decision.state), encode(decision.state, "state", self._limits)
        outcome = "applied" if taken else "ignored"
        # From here on nothing can fail: the draft changes whole or not at all.
        self.changed = self.changed or state != unit.state or state_name != unit.state_name
        unit.events.append(NewEvent(seq, name, payload, machine.version, outcome, source, cause, call_id))
        if dedup is not None:
            unit.dedup.append(dedup._replace(seq=seq))
        unit.seq, unit.state_name, unit.state, unit.version = seq, state_name, state, machine.version
        unit.status = MachineStatus.DONE if machine.is_final(decision.state) else unit.status
        self.state = decision.state
        self._take(outbox)

    def _outbox(self, seq: int, decision: Decision[Any, Any]) -> Written:
        """The event's own rows, and the timeout of a state whose class it entered; that of the left one ends."""
        seen = self._unit.seen
        outbox = written(self.machine, Moment(seen.id, seq, seen.at), decision.actions, self._limits)
        if type(decision.state) is not type(self.state):
            timer = state_timer(self.machine, ActionId(seen.id, seq, len(decision.actions)), decision.state)
            outbox.rows.extend([] if timer is None else [timer])
            outbox.cancelled.append(f"{STATE_TIMER}{self._unit.state_name}")
        return outbox

    def _take(self, outbox: Written) -> None:
        """Timers that an earlier event of the same unit set may end here too: those rows were never written."""
        unit = self._unit
        unit.actions = [row for row in unit.actions if row.timer is None or row.timer not in outbox.cancelled]
        unit.actions += outbox.rows
        unit.cancelled += outbox.cancelled
        if unit.ended:
            unit.actions = [row for row in unit.actions if row.timer is None]

    def offer(self, inbox: Sequence[Held]) -> None:
        """Offer the held events again, oldest first, from the start after each one that changed the state.

        One that is taken leaves the inbox. One whose transition has a bug stays there, and stands in `refused`. One that
        its transition refuses (Rejected) stands in the log as ignored, with the reason: nothing accepted is lost without
        a trace.
        """
        waiting = list(inbox)
        while (held := next((h for h in waiting if self._wanted(h)), None)) is not None:
            waiting.remove(held)
            event = decode_named(self.machine, "event", held.name, held.payload)
            known = None if held.dedup_key is None else Dedup(held.dedup_key, None, None)
            try:
                self.apply(event, held.source, cause=held.cause, call_id=held.call_id, dedup=known)
            except Rejected as refusal:
                self._record_refused(held, known, refusal.reason)
            except Exception as bug:  # noqa: BLE001 - in the user's transition: this event waits on, the others need not
                self.refused.append((held, bug))
                continue
            if held.pos is not None:
                self._unit.taken.append(held.pos)

    def _record_refused(self, held: Held, known: Dedup | None, reason: str) -> None:
        unit = self._unit
        unit.seq += 1
        plain = (
            reason.replace("\0", "").encode(errors="replace").decode()
        )  # a reason may quote what the database refuses
        unit.events.append(
            NewEvent(unit.seq, *held[1:4], "ignored", held.source, held.cause, held.call_id, plain)
        )
        if known is not None:
            unit.dedup.append(known._replace(seq=unit.seq))

    def _wanted(self, held: Held) -> bool:
        if self._unit.ended:
            return False
        return self.machine.takes(self.state, decode_named(self.machine, "event", held.name, held.payload))

    def finish(self, ending: Ending) -> None:
        """The unit also finishes this action."""
        self._unit.endings.append(ending)

    def _hold(self, held: Held, dedup: Dedup | None) -> None:
        unit = self._unit
        if unit.ended:
            raise UnhandledEvent(unit.seen.machine, unit.state_name, held.name)
        if unit.seen.inbox + len(unit.held) >= MAX_INBOX:
            raise InboxFull(MAX_INBOX)
        unit.held.append(held)
        if dedup is not None and dedup.digest is not None:
            unit.dedup.append(dedup)


def birth(
    machine: Machine[Any, Any, Any], state: object, seen: Seen, limits: Limits = DEFAULT_LIMITS
) -> tuple[Unit, Snapshot[Any]]:
    """The unit of a new machine in `state` (`seen` carries its id, key and time), and its snapshot.

    Raises UnknownType, InvalidPayload, Rejected (by `enter`), TransitionError.
    """
    name, text = machine.state_name(state), encode(state, "state", limits)
    decision = begin(machine, state, context(seen, 0))
    status = MachineStatus.DONE if machine.is_final(state) else MachineStatus.LIVE
    unit = Unit(seen, machine.version, status, name, text, 0)
    unit.actions += written(machine, Moment(seen.id, 0, seen.at), decision.actions, limits).rows
    timer = state_timer(machine, ActionId(seen.id, 0, len(decision.actions)), state)
    unit.actions += [] if timer is None else [timer]
    snapshot: Snapshot[Any] = Snapshot(
        seen.machine,
        seen.key,
        seen.id,
        machine.version,
        state,
        0,
        status,
        seen.at,
        seen.at,
        seen.at if unit.ended else None,
    )
    return unit, snapshot


def context(seen: Seen, seq: int) -> Context:
    """What the transition of event `seq` may know."""
    return Context(seen.at, seen.id, seen.key, seq)
