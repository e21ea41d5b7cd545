"""What a relay lets through: heads of lanes, actions under limits, queues under limits. Each in one short transaction."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from fsm_core.delivery.ports import Admitted, Cursor, Published, Share
from fsm_core.limits import ALMOST, Limit, next_token
from fsm_core.postgres.ask import Ask
from fsm_core.postgres.flows.advance import one
from fsm_core.postgres.low_water import ALL
from fsm_core.postgres.statements import limits, relay
from fsm_core.types import QUEUE_LIMIT, ActionId

if TYPE_CHECKING:
    from uuid import UUID

    from fsm_core.postgres.ask import Row

A_PASS = 500
"""How many lanes, and how many keys of limits, one pass looks at, as the statement has it."""


async def admit(cursor: Cursor) -> Admitted:
    """One pass, if no other relay is at it: the lock first, then a statement of its own with a new snapshot."""
    if not await Ask(relay.ADMISSION, {}, lambda rows: rows[0][0]):
        # Another relay is at it, perhaps in a snapshot without what has just come: nobody may sleep on that.
        return Admitted(0, cursor, timedelta(0))
    count, lane, lanes, limit, key, keys, wake = await Ask(
        relay.ADMIT, cursor._asdict(), lambda rows: rows[0]
    )
    after = Cursor(lane if lanes == A_PASS else "", *((limit, key) if keys == A_PASS else ()))
    return Admitted(count, after, None if wake is None else timedelta(seconds=wake))


def publish(queue: str, limit: int, ticket: UUID, back: timedelta = ALL) -> Ask[list[Published]]:
    """Mark due rows of the queue that became due not longer than `back` ago."""

    def reads(rows: list[Row]) -> list[Published]:
        return [Published(ActionId(*row[:3]), *row[3:]) for row in rows]

    return Ask(relay.PUBLISH, {"queue": queue, "n": limit, "ticket": ticket, "back": back}, reads)


async def publish_limited(queue: str, limit: int, ticket: UUID) -> Share:
    """Mark no more of them than the queue's limit leaves, and take their tokens.

    The limit's row is locked first; what is counted after it, in a new snapshot, is exact. A row that is gone or locked is
    looked at again by the next tick.
    """
    name = f"{QUEUE_LIMIT}{queue}"
    locked = await Ask(limits.QUEUE, {"name": name}, one)
    found = locked and await Ask(limits.QUEUE_ROOM, {"name": name, "queue": queue}, one)
    if not found:
        return Share([], full=True)
    room, tokens, at, rate, per, burst = found
    if room is not None and room <= 0:
        return Share([], full=True)
    left = [
        each for each in (limit, room, None if tokens is None else int(tokens + ALMOST)) if each is not None
    ]
    rows = await publish(queue, min(left), ticket) if min(left) > 0 else []
    if tokens is None:
        return Share(rows)
    if rows:
        await Ask(limits.SPEND, {"name": name, "tokens": tokens - len(rows), "at": at}, len)
    return Share(rows, wake=next_token(Limit(name, None, rate, per, burst), tokens - len(rows)) or None)
