"""What operators do to limits: set, list, remove. Each is one statement, and a ring where more may be let through now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_core.limits import SECOND, Limit
from fsm_core.postgres.ask import Ask
from fsm_core.postgres.statements import limits as sql

if TYPE_CHECKING:
    from fsm_core.postgres.ask import Row


async def put(limit: Limit) -> None:
    """Set a limit, or change it as a whole; a relay that sleeps looks at once."""
    rated = limit.rate is not None
    parameters = {
        "name": limit.name, "max_running": limit.max_running, "rate": limit.rate, "per": limit.per if rated else None,
        "burst": limit.burst,
    }  # fmt: skip
    await Ask(sql.SET, parameters, len)
    await Ask(sql.RING, {}, len)


async def every() -> list[Limit]:
    """All limits, by name."""
    found: list[Limit] = await Ask(sql.ALL, {}, lambda rows: list(map(_limit, rows)))
    return found


async def drop(name: str) -> bool:
    """Remove a limit; whether it was there."""
    was: bool = await Ask(sql.REMOVE, {"name": name}, bool)
    return was


def _limit(row: Row) -> Limit:
    name, max_running, rate, per, burst = row
    return Limit(name, max_running, rate, per or SECOND, burst)
