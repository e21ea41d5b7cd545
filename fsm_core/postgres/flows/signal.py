"""`signal`: an `advance` that is never too early. The event waits until an edge takes it, also before the machine exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_core.codec import encode
from fsm_core.draft import MAX_INBOX
from fsm_core.errors import DedupMismatch, InboxFull
from fsm_core.inputs import UNBORN_TTL, Dedup, remembered
from fsm_core.postgres import params
from fsm_core.postgres.ask import Ask
from fsm_core.postgres.flows.advance import Call, Conflict, decided, got_in, one, read
from fsm_core.postgres.flows.alone import whole
from fsm_core.postgres.flows.start import new_id, start
from fsm_core.postgres.statements import signals
from fsm_core.records import Receipt, receipt
from fsm_core.types import MachineStatus

if TYPE_CHECKING:
    from fsm_core.postgres.flows.start import Birth
    from fsm_core.unit import Seen


async def signal(call: Call, *, locked: bool, own: bool = True) -> Receipt:
    """Decide or hold, and write. Raises what `advance` raises, but neither MachineNotFound nor UnhandledEvent."""
    row = await read(call, locked=locked)
    if row is not None and row[4] != MachineStatus.UNBORN:
        return receipt(await decided(call, row, locked=locked, own=own))
    dedup = remembered(call.machine, call.event, call.dedup_key, call.limits)
    seen = None if row is None else params.seen(row)
    if seen is not None and row is not None:
        if call.tried_at is not None and await got_in(seen.id, call.id):
            return _early(call, seen)
        if (known := params.known(row)) is not None:
            return _duplicate(call, seen, dedup, known)
        if seen.inbox >= MAX_INBOX:
            raise InboxFull(MAX_INBOX)
    call.tried_at = 0
    made = await _held(call, seen, dedup)
    if made is None:
        raise Conflict
    return made


async def signal_or_start(call: Call, birth: Birth, *, own: bool = True) -> Receipt:
    """Start the machine if it is not there, then signal it, or neither; in one transaction. Raises what both raise."""

    async def both() -> Receipt:
        await start(birth, locked=True, own=own)
        return await signal(call, locked=True, own=own)

    return await (both() if own else whole(both()))


async def _held(call: Call, seen: Seen | None, dedup: Dedup | None) -> Receipt | None:
    """Keep it for a machine that is not born; None: somebody was quicker."""
    name = call.machine.event_name(call.event)
    parameters: dict[str, object] = {
        **call.address, "id": new_id() if seen is None else seen.id, "rev": seen and seen.rev, "name": name,
        "payload": encode(call.event, f"event {name}", call.limits), "version": call.machine.version, "source": call.source,
        "dedup": dedup and dedup.key, "digest": dedup and dedup.digest, "call_id": call.id,
        "ttl": UNBORN_TTL if call.ttl is None else call.ttl,
    }  # fmt: skip
    row = await Ask(signals.UNBORN if seen is None else signals.HOLD, parameters, one)
    return None if row is None else Receipt(call.machine.name, call.key, row[0], None, unborn=True)


def _early(call: Call, seen: Seen) -> Receipt:
    return Receipt(call.machine.name, call.key, seen.id, None, unborn=True)


def _duplicate(call: Call, seen: Seen, dedup: Dedup | None, known: params.Known) -> Receipt:
    if dedup is None or known.digest != dedup.digest:
        raise DedupMismatch(str(dedup and dedup.key), known.seq)
    return Receipt(call.machine.name, call.key, seen.id, known.seq, duplicate=True, unborn=True)
