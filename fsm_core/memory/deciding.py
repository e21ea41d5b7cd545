"""The decisions of a `MemoryStore`, under the tables' lock: what the flows of the Postgres store do in statements."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4, uuid5

from fsm_core.births import Address, Bounds, birth
from fsm_core.codec import decode_named, encode
from fsm_core.draft import MAX_INBOX, Draft
from fsm_core.errors import (
    DedupMismatch,
    InboxFull,
    InvariantViolated,
    TransitionError,
    UnknownMachine,
    WrongSeq,
)
from fsm_core.inputs import UNBORN_TTL, Dedup, remembered
from fsm_core.load import Load, admit
from fsm_core.memory.tables import OPEN
from fsm_core.records import Receipt, receipt
from fsm_core.types import MachineStatus
from fsm_core.unit import Held, Seen, Unit

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from fsm_core.memory.tables import DedupRow, MachineRow, Tables
    from fsm_core.payload import Limits
    from fsm_core.records import Snapshot
    from fsm_core.registry import AnyMachine, Registry

NAMESPACE = UUID("5e4f5d0e-7b5c-4d1e-9b62-6f736d656d6f")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """An event for a machine, checked. wait: it is a signal, held until an edge takes it, for `ttl` at most."""

    machine: AnyMachine
    key: str
    event: object
    dedup_key: str | None = None
    expected_seq: int | None = None
    wait: bool = False
    ttl: timedelta | None = None


@dataclass(frozen=True)
class Place:
    """What a machine is started with besides its state."""

    partition_key: str | None = None
    priority: int | None = None
    at: datetime | None = None


class Deciding:
    """Decides and writes. Every method is called with the lock held, and raises what a decision raises; nothing changed."""

    def __init__(self, tables: Tables, registry: Registry, limits: Limits) -> None:
        self._tables = tables
        self._registry = registry
        self._limits = limits

    def start(self, machine: AnyMachine, key: str, state: object, place: Place) -> Snapshot[Any]:
        """The new machine, or the one that is there already."""
        row = self._tables.find(machine.name, key)
        if row is not None and row.status is MachineStatus.UNBORN:
            return self._born(machine, row, state, place)
        if row is not None:
            return replace(self.draft(row).snapshot, duplicate=True)
        at = self._tables.clock.now()
        blank = Seen(
            _id_of(machine.name, key), machine.name, key, machine.version, MachineStatus.UNBORN, "", "", 0, 0, 0, at, at, at,
            None, partition_key=place.partition_key, priority=place.priority,
        )  # fmt: skip

        def decide(taken: frozenset[Address]) -> Unit:
            return birth(machine, state, blank, Bounds(self._limits, taken, at=place.at))[0]

        self._tables.insert(self._tables.decided(decide), "call", uuid4())
        return self.draft(self._tables.machines[blank.id]).snapshot

    def advance(self, row: MachineRow, call: Call) -> Snapshot[Any]:
        """The machine right after the event, or as it is while that is held."""
        draft = self.draft(row)
        dedup = remembered(call.machine, call.event, call.dedup_key, self._limits)
        if dedup is not None and (known := self._tables.dedup.get((row.id, dedup.key))) is not None:
            return _duplicate(draft, dedup, known)
        if call.expected_seq is not None and call.expected_seq != row.seq:
            raise WrongSeq(call.expected_seq, row.seq)
        if self._limits.capped:
            admit(draft.unit, self._load(row), self._limits)
        made, snapshots = uuid4(), list["Snapshot[Any]"]()

        def decide(taken: frozenset[Address]) -> Unit:
            draft = self.draft(row, taken)
            draft.apply(call.event, "call", call_id=made, dedup=dedup, wait=call.wait, ttl=call.ttl)
            snapshots.append(draft.snapshot)
            draft.follow()
            return self._offered(row, draft)

        self._write(row, self._tables.decided(decide))
        return snapshots[-1]

    def signal(self, call: Call) -> Receipt:
        """What became of a signal."""
        row = self._tables.find(call.machine.name, call.key)
        if row is not None and row.status is not MachineStatus.UNBORN:
            return receipt(self.advance(row, call))
        name = call.machine.event_name(call.event)
        dedup = remembered(call.machine, call.event, call.dedup_key, self._limits)
        payload = encode(call.event, f"event {name}", self._limits)
        if (
            row is not None
            and dedup is not None
            and (known := self._tables.dedup.get((row.id, dedup.key))) is not None
        ):
            if known.digest != dedup.digest:
                raise DedupMismatch(dedup.key, known.seq)
            return Receipt(call.machine.name, call.key, row.id, known.seq, duplicate=True, unborn=True)
        if row is not None and len(self._tables.inbox[row.id]) >= MAX_INBOX:
            raise InboxFull(MAX_INBOX)
        if row is None:
            made = _id_of(call.machine.name, call.key)
            row = self._tables.expect(made, call.machine.name, call.key, call.machine.version)
        held = Held(
            None, name, payload, call.machine.version, "call", None, call.dedup_key, uuid4(), call.ttl or UNBORN_TTL
        )  # fmt: skip
        self._tables.hold(row, held, dedup)
        return Receipt(call.machine.name, call.key, row.id, None, unborn=True)

    def draft(self, row: MachineRow, taken: frozenset[Address] = frozenset()) -> Draft:
        """The machine as a decision reads it."""
        return Draft(self._registry.reader(row.fsm, row.version), self._tables.seen(row), self._limits, taken)

    def judge(self, unit: Unit) -> None:
        """Raises InvariantViolated. Machines that this process does not know are nobody's to judge here."""
        try:
            machine = self._registry.reader(unit.seen.machine, unit.version)
        except UnknownMachine:
            return
        state = decode_named(machine, "state", unit.state_name, unit.state, unit.version)
        if (broken := machine.violated(state)) is not None:
            raise InvariantViolated(machine.name, unit.state_name, broken)

    def _born(self, machine: AnyMachine, row: MachineRow, state: object, place: Place) -> Snapshot[Any]:
        """Signals came before: it is born with them in its inbox."""
        made, snapshots = uuid4(), list["Snapshot[Any]"]()
        seen = self._tables.seen(row)._replace(partition_key=place.partition_key, priority=place.priority)

        def decide(taken: frozenset[Address]) -> Unit:
            bounds = Bounds(self._limits, taken, at=place.at)
            draft = Draft.born(machine, seen, state, made, bounds)
            snapshots.append(draft.snapshot)
            return self._offered(row, draft)

        self._write(row, self._tables.decided(decide))
        row.partition_key, row.priority = place.partition_key, place.priority
        return snapshots[-1]

    def _load(self, row: MachineRow) -> Load:
        since = self._tables.clock.now() - self._limits.per
        events = sum(each.occurred_at > since for each in self._tables.events[row.id])
        return Load(events, sum(action.status in OPEN for action in self._tables.of_machine[row.id]))

    def _offered(self, row: MachineRow, draft: Draft) -> Unit:
        if draft.changed:
            draft.offer(self._tables.waiting(row.id))
            for held, bug in draft.refused:
                log.error("a held %s could not be applied, it is held on", held.name, exc_info=bug)
        return draft.unit

    def _write(self, row: MachineRow, unit: Unit) -> None:
        if not self._tables.write(unit):
            raise TransitionError(f"machine {row.fsm}/{row.key} was changed by its own transition")


def _id_of(machine: str, key: str) -> UUID:
    return uuid5(NAMESPACE, f"{machine}/{key}")


def _duplicate(draft: Draft, dedup: Dedup, known: DedupRow) -> Snapshot[Any]:
    if known.digest != dedup.digest:
        raise DedupMismatch(dedup.key, known.seq)
    now, seq = draft.snapshot, known.seq
    return replace(now, seq=now.seq if seq is None else seq, duplicate=True, held=seq is None)
