"""The caps of one machine: a caller that floods it is refused, and costs the others nothing. Pure.

What the engine itself brings (results, timers, messages, ends of children) is never refused: it is how a machine that has too much gets
rid of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fsm_core.errors import Overloaded

if TYPE_CHECKING:
    from fsm_core.payload import Limits
    from fsm_core.unit import Unit


class Load(NamedTuple):
    """What a machine has: events within the span of the limits, and open actions; each counted up to its limit."""

    events: int
    open: int


def admit(unit: Unit, load: Load, limits: Limits) -> None:
    """May a caller's event join the unit? What the unit has already counts. Raises Overloaded."""
    seen, why = unit.seen, None
    if limits.events is not None and load.events + len(unit.events) >= limits.events:
        why = f"it has had {limits.events} events within {limits.per.total_seconds():g} s"
    elif limits.open is not None and load.open + len(unit.actions) >= limits.open:
        why = f"{limits.open} of its actions are open"
    if why is not None:
        raise Overloaded(seen.machine, seen.key, why)
