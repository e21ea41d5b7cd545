"""Group commit of calls: who leads, who waits, and when a group sets off. Pure; threads and tasks each do it in their own way.

One call is done at once. Those that come while it is under way wait, and are done together by the next one to lead: two statements and
one wait for the disk, as databases do it with their log. Source: group commit, DeWitt et al. 1984.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

W = TypeVar("W")

MOST = 100
"""How many calls one group has: those behind it wait for as long."""

GATHER = 0.001
"""Seconds for which whoever a group has answered may come back before the next one sets off: else every second group were a call alone."""

PATIENCE = 0.05
"""Seconds after which a waiting call goes by itself: a connection that hangs holds up the calls that are on it, and nobody else."""

MOST_KINDS = 1_000
"""How many queues are kept before those that nobody is in are thrown away."""


@dataclass(eq=False)
class Queue(Generic[W]):
    """Calls of one kind. Times are of a monotonic clock, in seconds."""

    leader: W | None = None
    waiting: list[W] = field(default_factory=list)
    size: int = 1
    """Of the last group."""
    until: float = 0.0
    """How long the next one is waited for."""

    def joins(self, one: W) -> bool:
        """Whether `one` leads; else it waits."""
        if self.leader is None:
            self.leader = one
            return True
        self.waiting.append(one)
        return False

    @property
    def full(self) -> bool:
        """Whether as many are there as were in the last group."""
        return len(self.waiting) + 1 >= self.size

    def gap(self, now: float) -> float:
        """For how many seconds the leader waits for more."""
        return 0.0 if self.full else max(self.until - now, 0.0)

    def taken(self, leader: W) -> list[W]:
        """The group of `leader`: it and those who wait."""
        group = [leader, *self.waiting[: MOST - 1]]
        del self.waiting[: MOST - 1]
        return group

    def usurps(self, one: W) -> bool:
        """Whether `one`, which has lost patience, leads from now on: it does if it is waiting yet."""
        if one not in self.waiting:
            return False
        self.waiting.remove(one)
        self.leader = one
        return True

    def over(self, leader: W, size: int, now: float) -> W | None:
        """A lead is over: who leads next. None: nobody waits, or somebody has taken the lead already."""
        if self.leader is not leader:
            return None
        self.size, self.until = size, now + GATHER
        self.leader = self.waiting.pop(0) if self.waiting else None
        return self.leader

    def idle(self, now: float) -> bool:
        """Whether it knows nothing that the next call had to know."""
        return self.leader is None and now > self.until


class Queues(Generic[W]):
    """The queues of all kinds of calls."""

    def __init__(self) -> None:
        self._by_kind: dict[Hashable, Queue[W]] = {}

    def of(self, kind: Hashable, now: float) -> Queue[W]:
        """The queue of a kind."""
        if kind not in self._by_kind and len(self._by_kind) >= MOST_KINDS:
            self._by_kind = {each: queue for each, queue in self._by_kind.items() if not queue.idle(now)}
        return self._by_kind.setdefault(kind, Queue())
