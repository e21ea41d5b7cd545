"""How long what is over is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from datetime import timedelta

SOON, LATER = 1.0, 60.0
"""Seconds until a relay prunes again: where there was something to do, and where there was nothing."""


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


KEEP_ALL = Retention()
"""What is done where nobody has said anything."""


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


class Prunes(Protocol):
    """What pruning in the background asks of a store."""

    def prune(self, retention: Retention) -> Pruned:
        """One slice of each kind: what is over for longer than it is kept, and held events that have expired."""


class Keeper:
    """A relay's pruning: a slice now and then, so that it never has to do much at once. Several relays share the work."""

    def __init__(self, store: Prunes, retention: Retention) -> None:
        self._store = store
        self._retention = retention
        self._next = 0.0

    def tick(self, now: float) -> Pruned:
        """One slice, if it is time: `now` are the seconds of any clock that does not go back. Raises StoreError."""
        if now < self._next:
            return Pruned()
        self._next = now + LATER  # also where it raises: what cannot be pruned now cannot be a second later
        done = self._store.prune(self._retention)
        self._next = now + (SOON if any(done) else LATER)
        return done
