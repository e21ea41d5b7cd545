"""How long what is over is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import timedelta


class Retention(NamedTuple):
    """How long after its end a machine keeps what. None: for ever.

    details: its events, finished actions and attempts. What stays is its row with the last state, its last event, its last
    failed action and its dedup keys; so its key cannot be started again, and a webhook that is late is still known.
    whole: everything. Then the key is free.
    """

    details: timedelta | None = None
    whole: timedelta | None = None

    @property
    def first(self) -> timedelta | None:
        """After how long the details go, at the latest when everything does."""
        given = [age for age in self if age is not None]
        return min(given, default=None)


class Pruned(NamedTuple):
    """What was deleted; a dry run counts machines and held events only.

    machines: ended ones whose details went. cut: live ones whose log was cut. forgotten: those that went as a whole. unborn: those
    that were never born. events, actions, attempts, held: rows, of them all.
    """

    machines: int = 0
    cut: int = 0
    forgotten: int = 0
    unborn: int = 0
    events: int = 0
    actions: int = 0
    attempts: int = 0
    held: int = 0

    def plus(self, other: Pruned) -> Pruned:
        """Both together."""
        return Pruned(*(mine + its for mine, its in zip(self, other, strict=True)))
