"""Group commit of calls: who leads, who waits, and when a group sets off. Pure; threads and tasks each do it in their own way.

One call is done at once. Those that come while it is under way wait, and are done together by the next one to lead: two statements and
one wait for the disk, as databases do it with their log. Source: group commit, DeWitt et al. 1984.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from fsm_core.postgres.flows.many import Answer

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from fsm_core.postgres.flows.advance import Call


class Told(Protocol):
    """An event, of threads or of tasks."""

    def set(self) -> None:
        """Wake whoever waits for it."""


T = TypeVar("T", bound=Told)
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

    # An interrupt comes between two calls at the earliest (CPython looks for one there, and at jumps back): so no call stands where
    # somebody is neither in the one place nor in the other.

    def taken(self) -> list[W]:
        """Those who go with the leader: they wait no longer."""
        others = self.waiting[: MOST - 1]
        del self.waiting[: MOST - 1]
        return others

    def usurps(self, one: W) -> bool:
        """Whether `one`, which has lost patience, leads from now on: it does if it is waiting yet."""
        if one not in self.waiting:
            return False
        self.waiting.remove(one)
        self.leader = one
        return True

    def over(self, one: W, size: int, now: float) -> W | None:
        """`one` waits no longer; if it leads, so does the next one from now on. Who leads then; said again, it changes nothing."""
        if one in self.waiting:
            self.waiting.remove(one)
        if self.leader is one:
            self.size, self.until = size, now + GATHER
            self.leader = self.waiting[0] if self.waiting else None
            del self.waiting[:1]
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


@dataclass(eq=False)
class Waiting(Generic[T]):
    """A call, and who waits for it. Told without an answer: it leads."""

    call: Call
    told: T
    answer: Answer | None = None
    others: Sequence[Waiting[T]] = ()
    """Who goes with it, where it leads."""

    def leave(self, queue: Queue[Waiting[T]], now: float) -> None:
        """Its lead or its wait is over, however that came: those who went with it are told, and whoever leads next.

        One that has no answer is done alone. Done again, as it is where an interrupt comes in its midst, it does no harm.
        """
        for each in self.others:
            each.answer = each.answer or Answer(each.call)
            each.told.set()
        following = queue.over(self, len(self.others) + 1, now)
        if following is not None:
            following.told.set()
