"""`advance`: read the machine, decide, write everything under the guard of its revision."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from fsm_core.draft import Draft
from fsm_core.errors import DedupMismatch, MachineNotFound, WrongSeq
from fsm_core.inputs import Dedup, remembered
from fsm_core.load import admit
from fsm_core.postgres import params
from fsm_core.postgres.ask import Ask, Row
from fsm_core.postgres.flows.alone import Alone, alone
from fsm_core.postgres.statements import machines as sql
from fsm_core.types import MachineStatus

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from fsm_core.births import Address
    from fsm_core.payload import Limits
    from fsm_core.records import Snapshot
    from fsm_core.registry import AnyMachine, Registry
    from fsm_core.unit import Held, Seen, Unit


class Conflict(Exception):
    """The machine changed between the read and the write: decide again, under its lock."""


@dataclass
class Call:
    """One call of `advance`, over all its tries. `tried_at` is the seq read before the first write, if there was one.

    wait: it is a signal: held until an edge takes it, for `ttl` at most.
    """

    registry: Registry
    machine: AnyMachine
    key: str
    event: object
    limits: Limits
    dedup_key: str | None = None
    expected_seq: int | None = None
    source: str = "call"
    cause: str | None = None
    wait: bool = False
    ttl: timedelta | None = None
    id: UUID = None  # type: ignore[assignment]
    tried_at: int | None = None

    def __post_init__(self) -> None:
        self.id = uuid4()

    @property
    def address(self) -> dict[str, object]:
        """The machine's name and key, as parameters."""
        return {"fsm": self.machine.name, "key": self.key}

    @property
    def capped(self) -> bool:
        """Whether the machine's load counts: it does not for what an action brings."""
        return self.limits.capped and self.cause is None

    @property
    def what(self) -> str:
        """For messages: what was being done, and to which machine."""
        return f"advance {self.machine.name}/{self.key}"


async def advance(call: Call, *, locked: bool, own: bool = True) -> Snapshot[Any]:
    """Decide and write. `locked`: we are in a transaction; take the machine's lock first. `own`: it is the store's.

    Raises MachineNotFound, the refusals of a decision, DedupMismatch, WrongSeq, StoreError, Conflict if the guard failed, and
    Alone if it is not locked and must be: then nothing was written.
    """
    row = await read(call, locked=locked)
    if row is None or row[4] == MachineStatus.UNBORN:
        raise MachineNotFound(call.machine.name, call.key)
    return await decided(call, row, locked=locked, own=own)


async def read(call: Call, *, locked: bool) -> Row | None:
    """The machine's row, with what its dedup key did before."""
    if locked:
        await Ask(sql.LOCK, call.address, len)
    if call.capped:
        places = [(call.key, call.dedup_key)]
        return one(await params.read_keys(call.machine.name, places, call.limits, capped=True))
    if call.dedup_key is None:
        rows: list[Row] = await Ask(sql.READ, call.address, list)
    else:
        rows = await Ask(sql.READ_DEDUP, {**call.address, "dedup": call.dedup_key}, list)
    return one(rows)


async def decided(call: Call, row: Row, *, locked: bool, own: bool) -> Snapshot[Any]:
    """Decide on the row as it was read, and write. Raises as `advance` does."""
    seen = params.seen(row)
    machine = call.registry.reader(seen.machine, seen.version)
    draft = Draft(machine, seen, call.limits)
    if call.tried_at is not None and (found := await sought(call, draft)) is not None:
        return found
    dedup = remembered(call.machine, call.event, call.dedup_key, call.limits)
    if (duplicate := answered(call, draft, row, dedup)) is not None:
        return duplicate
    apply(call, draft, dedup)
    needs_lock = draft.unit.alone or draft.offers
    if needs_lock and not locked:
        raise Alone
    call.tried_at = seen.seq + 1
    if not needs_lock:
        if not await write(draft.unit):
            raise Conflict
        return draft.snapshot
    return await _alone(call, machine, seen, dedup, own=own)


def answered(call: Call, draft: Draft, row: Row, dedup: Dedup | None) -> Snapshot[Any] | None:
    """A duplicate's answer; None: it is to be decided. Raises DedupMismatch, WrongSeq, Overloaded."""
    if (known := params.known(row)) is not None:
        return _duplicate(draft, dedup, known)
    if call.expected_seq is not None and call.expected_seq != draft.unit.seq:
        raise WrongSeq(call.expected_seq, draft.unit.seq)
    if call.capped:
        admit(draft.unit, params.load(row), call.limits)
    return None


async def _alone(
    call: Call, machine: AnyMachine, seen: Seen, dedup: Dedup | None, *, own: bool
) -> Snapshot[Any]:
    """Under the lock: with what is held, with children and projections. Raises what a decision raises, and Conflict."""
    held = (
        await Ask(sql.INBOX, {"id": seen.id}, lambda rows: [params.held(r) for r in rows])
        if seen.inbox
        else []
    )
    snapshot: Snapshot[Any] | None = None

    def decide(taken: frozenset[Address], *, offer: bool) -> Unit:
        nonlocal snapshot
        draft = Draft(machine, seen, call.limits, taken)
        apply(call, draft, dedup)
        snapshot = draft.snapshot
        draft.follow()
        if offer and draft.changed:
            offered(draft, held, call.what)
        return draft.unit

    if not await alone(decide, write, own=own) or snapshot is None:
        raise Conflict
    return snapshot


def apply(call: Call, draft: Draft, dedup: Dedup | None) -> None:
    """Decide. Raises what a decision raises."""
    draft.apply(
        call.event, call.source, cause=call.cause, call_id=call.id, dedup=dedup, wait=call.wait, ttl=call.ttl
    )


def offered(draft: Draft, held: Sequence[Held], what: str) -> None:
    """Offer what is held. What has a bug is held on, and said here: it is nobody's answer."""
    draft.offer(held)
    for each, bug in draft.refused:
        log.error("%s: a held %s could not be applied, it is held on", what, each.name, exc_info=bug)


async def write(unit: Unit) -> bool:
    """Write one unit, by the fast statement if it is plain. Returns whether its guard held."""
    if unit.plain:
        return await params.write_one(unit)
    return bool(await params.write_many([unit]))


async def sought(call: Call, draft: Draft) -> Snapshot[Any] | None:
    """After a COMMIT whose answer was lost: the snapshot, if this very call got in."""
    seen = draft.unit.seen
    parameters = {"id": seen.id, "from": call.tried_at, "call_id": call.id}
    row = await Ask(sql.SOUGHT, parameters, one)
    return None if row is None else _known(draft.snapshot, row[0])


async def got_in(machine: UUID, call_id: UUID) -> bool:
    """The same where only that is asked: whether this very call is in the machine's log, or inbox."""
    parameters = {"id": machine, "from": 0, "call_id": call_id}
    return await Ask(sql.SOUGHT, parameters, one) is not None


def one(rows: list[Row]) -> Row | None:
    """The only row, or None."""
    return rows[0] if rows else None


def _duplicate(draft: Draft, dedup: Dedup | None, known: params.Known) -> Snapshot[Any]:
    if dedup is None or known.digest != dedup.digest:
        raise DedupMismatch(str(dedup and dedup.key), known.seq)
    return _known(draft.snapshot, known.seq, duplicate=True)


def _known(snapshot: Snapshot[Any], seq: int | None, *, duplicate: bool = False) -> Snapshot[Any]:
    return replace(snapshot, seq=snapshot.seq if seq is None else seq, duplicate=duplicate, held=seq is None)
