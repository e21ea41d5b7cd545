"""A unit in the making: it takes events one by one, in memory, and a refused event leaves nothing in it. Pure."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from fsm_core.births import AMPLE, Address, Bounds, address_of, birth, births, context, farewell
from fsm_core.codec import decode_named, encode
from fsm_core.decide import advance
from fsm_core.errors import (
    ChildExists,
    InboxFull,
    MachineEnded,
    Refused,
    Rejected,
    TransitionError,
    UnhandledEvent,
)
from fsm_core.inputs import Dedup
from fsm_core.payload import DEFAULT_LIMITS, Limits
from fsm_core.records import Snapshot
from fsm_core.rows import STATE_TIMER, Moment, Written, state_timer, written
from fsm_core.types import ENGINE_EVENTS, ActionId, Change, Failed, Spawn
from fsm_core.unit import Birth, Ending, Held, NewEvent, Rebased, Seen, Unit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from uuid import UUID

    from fsm_core.machine import Machine
    from fsm_core.types import Decision

MAX_INBOX = 1000

MAX_ENTAILED = 100
"""How many events of its own one may entail: who asks for a key that is taken again and again would never end."""

REFUSALS = (Rejected, UnhandledEvent, MachineEnded, InboxFull)
"""How a machine says that an event comes too late or does not concern it."""


_UNBORN = Failed(Spawn("", ""))


class _After(NamedTuple):
    """What follows from one decision."""

    outbox: Written
    births: list[Birth]
    projected: list[object]
    state_name: str
    state: str
    rebased: Rebased | None


class Draft:
    """A unit in the making for one machine. Every method that raises leaves the draft as it was.

    taken: addresses that are known to be in use, so that no child can be born there.
    """

    def __init__(
        self,
        machine: Machine[Any, Any, Any],
        seen: Seen,
        limits: Limits = DEFAULT_LIMITS,
        taken: frozenset[Address] = frozenset(),
    ) -> None:
        self.machine = machine
        self.state: Any = (
            decode_named(machine, "state", seen.state_name, seen.state, seen.version) if seen.state else None
        )
        self.changed = False
        self.refused: list[tuple[Held, Exception]] = []
        self._limits = limits
        self._taken = taken
        self._unborn: list[Birth] = []
        self._unit = Unit(seen, seen.version, seen.status, seen.state_name, seen.state, seen.seq)

    @classmethod
    def born(
        cls,
        machine: Machine[Any, Any, Any],
        seen: Seen,
        state: object,
        call_id: UUID,
        bounds: Bounds,
    ) -> Draft:
        """The birth of a machine that signals came before: `seen` is its row, without a state. Raises as `birth` does."""
        draft = cls(machine, seen, bounds.limits, bounds.taken)
        unit, _ = birth(machine, state, seen, bounds)
        born = NewEvent(0, unit.state_name, unit.state, unit.version, "applied", "call", None, call_id)
        unit.events.append(born)
        draft._unit, draft.state, draft.changed = unit, state, True
        return draft

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
        wait: bool = False,
        ttl: timedelta | None = None,
    ) -> None:
        """Take `event`: a new event of the log with its actions, or a held one under the policy "defer".

        wait: it is a signal, held by any machine until an edge takes it, for `ttl` at most.

        Raises MachineEnded, UnknownType, InvalidPayload, UnhandledEvent, Rejected, InboxFull, TransitionError, and
        whatever the transition raises.
        """
        unit, machine = self._unit, self.machine
        name = machine.event_name(event)
        limits = AMPLE if isinstance(event, ENGINE_EVENTS) else self._limits
        payload = encode(event, f"event {name}", limits, form=machine.form_of(event))
        if unit.ended and not machine.is_final(self.state):
            raise MachineEnded(unit.seen.machine, unit.seen.key, unit.status)
        taken = machine.takes(self.state, event)
        if not taken and wait and unit.ended:
            raise MachineEnded(unit.seen.machine, unit.seen.key, unit.status)
        if not taken and (wait or machine.unhandled == "defer"):
            key = dedup and dedup.key
            self._hold(Held(None, name, payload, machine.version, source, cause, key, call_id, ttl), dedup)
            return
        seq = unit.seq + 1
        decision = advance(machine, self.state, event, context(unit.seen, seq))
        after = self._after(seq, event, decision)
        # From here on nothing can fail: the draft changes whole or not at all.
        outcome = "applied" if taken else "ignored"
        unit.events.append(NewEvent(seq, name, payload, machine.version, outcome, source, cause, call_id))
        if dedup is not None:
            unit.dedup.append(dedup._replace(seq=seq))
        self._step(decision, after)

    def follow(self) -> None:
        """What the events so far entail, as events of their own: children whose key was taken are told of.

        A machine that refuses to hear has their rows to tell it. Raises what its transition raises else, and TransitionError:
        there is no end to them.
        """
        last = self._unit.seq + MAX_ENTAILED
        while self._unborn:
            if self._unit.seq == last:
                raise TransitionError(
                    f"an event entails more than {MAX_ENTAILED} others: children whose keys are taken"
                )
            each = self._unborn.pop(0)
            machine, key = address_of(each)
            cause = str(ActionId(self._unit.seen.id, each.seq, each.idx))
            with suppress(*REFUSALS):
                self.apply(
                    Failed(Spawn(machine, key), f"{machine}/{key} exists already"), "machine", cause=cause
                )

    def rebase(self) -> None:
        """Write the state in the present shape, without an event, if an older version wrote it. Raises InvalidPayload."""
        rebased = self._rebased()
        if rebased is not None:
            unit = self._unit
            unit.rebased, unit.version = rebased, rebased.version
            unit.state_name, unit.state = rebased.state_name, rebased.state

    def _after(self, seq: int, event: object, decision: Decision[Any, Any]) -> _After:
        """All that follows from a decision, computed before any of it is written down."""
        machine, seen, state, rebased = self.machine, self._unit.seen, decision.state, self._rebased()
        moment, last = (
            Moment(seen.id, seq, seen.at, seen.partition_key, seen.priority),
            ActionId(seen.id, seq, len(decision.actions)),
        )
        outbox = written(machine, moment, decision.actions, self._limits)
        taken = self._taken | {(unit.seen.machine, unit.seen.key) for unit in self._unit.born}
        children = births(machine, seen, moment, decision.actions, Bounds(self._limits, taken))
        if any(each.child is None for each in children) and not machine.has_edge(_UNBORN):
            raise ChildExists(*next(address_of(each) for each in children if each.child is None))
        if type(state) is not type(self.state):
            timer = state_timer(machine, last, state)
            outbox.rows.extend([] if timer is None else [timer])
            # By both of its names, if an older version set it: the row may still stand under that one's.
            names = {machine.state_name(self.state), *([] if rebased is None else [rebased.before])}
            outbox.cancelled.extend(f"{STATE_TIMER}{name}" for name in sorted(names))
        if machine.is_final(state) and not self._unit.ended:
            told = farewell(machine, seen, last, state)
            outbox.rows.extend([] if told is None else [told])
        changes = (
            machine.projected(Change(seen.key, seq, seen.at, self.state, event, state))
            if machine.projects
            else []
        )
        form = machine.form_of(state)
        name, json = machine.state_name(state), encode(state, "state", self._limits, form=form)
        return _After(outbox, children, changes, name, json, rebased)

    def _rebased(self) -> Rebased | None:
        """The state before the unit's first event in the present shape, if an older version wrote it."""
        seen, machine = self._unit.seen, self.machine
        if seen.version == machine.version or self._unit.rebased is not None:
            return self._unit.rebased
        state = encode(self.state, "state", self._limits, form=machine.form_of(self.state))
        return Rebased(seen.seq, machine.version, seen.state_name, machine.state_name(self.state), state)

    def _step(self, decision: Decision[Any, Any], after: _After) -> None:
        unit, machine = self._unit, self.machine
        unit.rebased = after.rebased
        unit.seq += 1
        self.changed = self.changed or after.state != unit.state or after.state_name != unit.state_name
        unit.state_name, unit.state, unit.version = after.state_name, after.state, machine.version
        if machine.is_final(decision.state):
            unit.status = machine.ended_as(decision.state)
        self.state = decision.state
        unit.births += after.births
        self._unborn += [each for each in after.births if each.child is None]
        unit.projected += after.projected
        self._take(after.outbox)

    def _take(self, outbox: Written) -> None:
        """Timers that an earlier event of the same unit set may end here too: those rows were never written."""
        unit = self._unit
        unit.actions = [row for row in unit.actions if row.timer is None or row.timer not in outbox.cancelled]
        unit.actions += outbox.rows
        unit.cancelled += outbox.cancelled
        if unit.ended:
            unit.actions = [row for row in unit.actions if row.timer is None]

    @property
    def offers(self) -> bool:
        """Whether there are held events to be offered, as the state has changed. Those of the inbox are read under the machine's lock."""
        return self.changed and bool(self._unit.seen.inbox or self._unit.held)

    def offer(self, inbox: Sequence[Held]) -> None:
        """Offer the held events again, and after them those of this unit; oldest first, from the start after each one that changed the state.

        One that is taken leaves the inbox. One whose transition, or what follows from it, has a bug stays there, and stands
        in `refused`; so does one that nobody here reads. One that its transition refuses (Rejected) stands in the log as
        ignored, with the reason: nothing accepted is lost without a trace.
        """
        waiting = [*inbox, *self._unit.held]
        while (held := self._next(waiting)) is not None:
            waiting.remove(held)
            before = self._unit.copied(), self.state, self.changed, [*self._unborn]
            try:
                self._take_up(held)
            except Exception as bug:  # noqa: BLE001 - in the user's transition: this event waits on, the others need not
                self._unit, self.state, self.changed, self._unborn = before
                self.refused.append((held, bug))

    def _next(self, waiting: list[Held]) -> Held | None:
        """The oldest one that an edge takes now; those that cannot be read are taken out."""
        for held in list(waiting):
            try:
                if self._wanted(held):
                    return held
            except Refused as unread:
                waiting.remove(held)
                self.refused.append((held, unread))
        return None

    def _take_up(self, held: Held) -> None:
        event = decode_named(self.machine, "event", held.name, held.payload, held.version)
        known = self._known(held)
        try:
            self.apply(event, held.source, cause=held.cause, call_id=held.call_id, dedup=known)
        except Rejected as refusal:
            self._record_refused(held, known, refusal.reason)
        self.follow()
        if held.pos is None:
            self._unit.held.remove(held)
        else:
            self._unit.taken.append(held.pos)

    def _known(self, held: Held) -> Dedup | None:
        """What is remembered of its dedup key: the row's digest stays as it is; a key that this very unit brought has no row yet."""
        if held.dedup_key is None:
            return None
        if held.pos is not None:
            return Dedup(held.dedup_key, None, None)
        (brought,) = (each for each in self._unit.dedup if each.key == held.dedup_key)
        self._unit.dedup.remove(brought)
        return brought

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
        return self.machine.takes(
            self.state, decode_named(self.machine, "event", held.name, held.payload, held.version)
        )

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
