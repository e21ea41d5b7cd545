"""`start`: a machine, its birth in the log and the actions of `enter`, once per address."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from fsm_core.births import Bounds, birth, uuid7
from fsm_core.draft import Draft
from fsm_core.errors import DefinitionError, MachineNotFound
from fsm_core.postgres import params
from fsm_core.postgres.ask import Ask, Row
from fsm_core.postgres.flows.advance import got_in, offered
from fsm_core.postgres.flows.alone import Alone, alone
from fsm_core.postgres.statements import machines as sql
from fsm_core.postgres.statements import signals
from fsm_core.types import MachineStatus
from fsm_core.unit import Seen

if TYPE_CHECKING:
    from datetime import datetime

    from fsm_core.births import Address
    from fsm_core.payload import Limits
    from fsm_core.records import Snapshot
    from fsm_core.registry import AnyMachine, Registry
    from fsm_core.unit import Unit


@dataclass(frozen=True)
class Birth:
    """One call of `start`, over all its tries. `id` is the machine's, made once: a birth found under it is this call's own.

    `wait`: how long to wait for a crossing birth, as lock_timeout; None in a caller's transaction. `partition_key`, `priority`:
    of its actions; `at`: when they begin.
    """

    registry: Registry
    machine: AnyMachine
    key: str
    state: object
    limits: Limits
    wait: str | None
    partition_key: str | None = None
    priority: int | None = None
    at: datetime | None = None
    id: UUID = field(default_factory=lambda: new_id())  # noqa: PLW0108 - it is defined below

    @property
    def what(self) -> str:
        """For messages: what was being done, and to which machine."""
        return f"start {self.machine.name}/{self.key}"


async def start(call: Birth, *, locked: bool, own: bool = True) -> Snapshot[Any]:
    """The new machine's snapshot, or with `duplicate=True` that of the one that is there already.

    `state` None: the machine's `initial`. `locked`: we are in a transaction; `own`: it is the store's. Raises
    DefinitionError (there is none), UnknownType, InvalidPayload, Rejected (by `enter`), ChildExists, StoreError, and Alone.
    """
    machine, key = call.machine, call.key
    chosen = machine.initial if call.state is None else call.state
    if chosen is None:
        raise DefinitionError(f"machine {machine.name!r} has no initial=; start it with a state")
    machine.state_name(chosen)
    address = {"fsm": machine.name, "key": key}
    row: Row = await Ask(
        sql.READ_BIRTH, address, lambda rows: rows[0]
    )  # nothing but the time, if nobody is there
    if row[0] is not None:
        return await _there(call, row, chosen, locked=locked, own=own)
    at = params.utc(row[10])
    blank = Seen(
        id=call.id, machine=machine.name, key=key, version=machine.version, status=MachineStatus.UNBORN, state_name="",
        state="", seq=0, rev=0, inbox=0, at=at, created_at=at, updated_at=at, ended_at=None,
        partition_key=call.partition_key, priority=call.priority,
    )  # fmt: skip
    unit, snapshot = birth(machine, chosen, blank, Bounds(call.limits, at=call.at))

    async def write(given: Unit) -> bool:
        return await params.start(given, "call", uuid4(), call.wait)

    def decide(taken: frozenset[Address], *, offer: bool) -> Unit:  # noqa: ARG001 - nothing is held before a birth
        return birth(machine, chosen, blank, Bounds(call.limits, taken, at=call.at))[0]

    if unit.alone and not locked:
        raise Alone
    if await (alone(decide, write, own=own) if unit.alone else write(unit)):
        return snapshot
    # Somebody was quicker. The statement that waited for them cannot see them; this one can.
    row = await Ask(sql.READ_BIRTH, address, lambda rows: rows[0])
    if row[0] is None:
        raise MachineNotFound(machine.name, key)
    return await _there(call, row, chosen, locked=locked, own=own)


async def _there(call: Birth, row: Row, state: object, *, locked: bool, own: bool) -> Snapshot[Any]:
    """A row is there: the machine, or what holds signals for it; then it is born now, under its lock."""
    if row[4] == MachineStatus.UNBORN:
        if not locked:
            raise Alone
        await Ask(sql.LOCK_ID, {"id": row[0]}, len)
        rows: list[Row] = await Ask(sql.READ_MANY, {"ids": [row[0]]}, list)
        if not rows:
            return await start(
                call, locked=locked, own=own
            )  # what waited has expired meanwhile, and is deleted
        row = rows[0]
        if row[4] == MachineStatus.UNBORN:
            placed = params.seen(row)._replace(partition_key=call.partition_key, priority=call.priority)
            return await _born(call, placed, state, own=own)
    seen = params.seen(row)
    found = Draft(call.registry.reader(seen.machine, seen.version), seen).snapshot
    # A machine that signals came before keeps the id of its row: whether this call bore it is in its log.
    return replace(found, duplicate=seen.id != call.id and not await got_in(seen.id, call.id))


async def _born(call: Birth, seen: Seen, state: object, *, own: bool) -> Snapshot[Any]:
    held = await Ask(sql.INBOX, {"id": seen.id}, lambda rows: [params.held(r) for r in rows])
    snapshot: Snapshot[Any] | None = None

    def decide(taken: frozenset[Address], *, offer: bool) -> Unit:
        nonlocal snapshot
        draft = Draft.born(call.machine, seen, state, call.id, Bounds(call.limits, taken, at=call.at))
        snapshot = draft.snapshot
        if offer:
            offered(draft, held, call.what)
        return draft.unit

    async def write(unit: Unit) -> bool:
        place = {"id": seen.id, "partition_key": seen.partition_key, "priority": seen.priority}
        await Ask(signals.PLACE, place, len)
        return bool(await params.write_many([unit]))

    if not await alone(decide, write, own=own) or snapshot is None:
        raise MachineNotFound(call.machine.name, call.key)  # pragma: no cover - its row is locked
    return snapshot


def new_id() -> UUID:
    """A UUID of version 7, made here: `ctx.id` is needed before the insert."""
    return uuid7(time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10)))
