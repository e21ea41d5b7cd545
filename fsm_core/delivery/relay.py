"""The relay's tick: admit, publish what is due, reconcile. It runs no user code and never decides.

A publish failure is backed off and never counted against an action. The broker's queue is kept short by a window per
queue: priority is decided in Postgres, a wiped broker costs one window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fsm_core.delivery.ports import Broker, Cursor, Message, Published, Queue, RelayStore, Share
from fsm_core.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import timedelta
    from uuid import UUID

MOST_IDS = 50
WINDOW_LEAST_PER_SLOT = 4
WINDOW_MOST = 2000
TWICE = 2

PASSES = 4
"""How many passes of admission one tick makes at most, while they find nothing to admit: 2,000 lanes, and as many keys of limits."""


@dataclass
class Window:
    """How many rows of one queue may be published and not claimed. It follows what the workers take."""

    size: int
    hungry: int = 0

    def room(self, taken: int, slots: int) -> int:
        """How many more may be published now, `taken` of the window being in use by `slots` workers' slots."""
        least = max(WINDOW_LEAST_PER_SLOT * slots, 1)
        self.size = min(max(self.size, least), WINDOW_MOST)
        return max(self.size - taken, 0)

    def used(self, taken: int, published: int, room: int) -> None:
        """Learn from one tick: found under half full twice running while there was more to send, it doubles."""
        limited = published == room and room > 0
        self.hungry = self.hungry + 1 if limited and taken * 2 < self.size else 0
        if self.hungry >= TWICE:
            self.size, self.hungry = min(self.size * 2, WINDOW_MOST), 0

    def full(self, slots: int) -> None:
        """It was found full for a second: halve it."""
        self.size = max(self.size // 2, WINDOW_LEAST_PER_SLOT * slots)


@dataclass
class Tick:
    """What one tick did.

    limited: there was as much to publish as there was room, so there may be more. wake: when time alone lets more through; None: it
    does not. closed: queues whose limit has no token left until then.
    """

    admitted: int = 0
    published: int = 0
    full: bool = False
    limited: bool = False
    broker_down: str | None = None
    wake: timedelta | None = None
    closed: set[str] = field(default_factory=set)

    def wait(self, span: timedelta | None) -> None:
        """Look again after `span`, if nothing else does before."""
        if span is not None:
            self.wake = span if self.wake is None else min(self.wake, span)

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.admitted or self.published or self.full or self.broker_down)


@dataclass
class Relay:
    """The state that a relay keeps between ticks; all of it may be lost without harm.

    tickets: makes a fresh random UUID (the simulator gives its own).
    """

    store: RelayStore
    broker: Broker
    tickets: Callable[[], UUID]
    windows: dict[str, Window] = field(default_factory=dict)
    cursor: Cursor = field(default_factory=Cursor)
    broken: str | None = None

    def tick(self, queues: Mapping[str, Queue], *, admit: bool) -> Tick:
        """Admit (if `admit`) and publish for `queues`. Raises StoreError; a broker that is away is told in the answer."""
        done = Tick()
        if admit:
            self._admit(done)
        if self.broken is not None and not self._mended():
            done.broker_down = self.broken
            return done
        for name, queue in queues.items():
            self._publish(name, queue, done)
            if self.broken is not None:
                done.broker_down = self.broken
                break
        return done

    def shrink(self, queues: Mapping[str, Queue]) -> None:
        """Once a second: halve the windows that are full."""
        for name, window in self.windows.items():
            if name in queues and self.store.window(name) >= window.size:
                window.full(queues[name].slots)

    def _admit(self, done: Tick) -> None:
        for _ in range(PASSES):
            found = self.store.admit(self.cursor)
            self.cursor, done.admitted = found.cursor, found.rows
            done.wait(found.wake)
            if done.admitted or self.cursor == Cursor():
                return

    def _publish(self, name: str, queue: Queue, done: Tick) -> None:
        window = self.windows.setdefault(name, Window(WINDOW_LEAST_PER_SLOT * max(queue.slots, 1)))
        taken = self.store.window(name)
        room = window.room(taken, queue.slots)
        if room == 0:
            done.full = True
            return
        ticket = self.tickets()
        rows = self._marked(name, room, ticket, done, limited=queue.limited)
        window.used(taken, len(rows), room)
        if not rows:
            return
        try:
            self.broker.publish(name, list(messages(rows, ticket, queue.slots, queue.at_once)))
        except BrokerUnavailable as error:
            # Some may have been sent: their ticket is void once the rows are back, so they change nothing.
            self.broken = str(error)
            self.store.unpublish([row.id for row in rows], ticket, "the broker did not answer")
            return
        done.published += len(rows)
        done.limited = done.limited or len(rows) == room

    def _marked(self, name: str, room: int, ticket: UUID, done: Tick, *, limited: bool) -> list[Published]:
        if not limited:
            return self.store.publish(name, room, ticket)
        share: Share = self.store.publish_limited(name, room, ticket)
        done.full = done.full or share.full
        if share.wake is not None:
            done.closed.add(name)
            done.wait(share.wake)
        return share.rows

    def _mended(self) -> bool:
        try:
            self.broker.ping()
        except BrokerUnavailable as error:
            self.broken = str(error)
            return False
        self.broken = None
        return True


def messages(rows: list[Published], ticket: UUID, slots: int, at_once: int = 1) -> Iterator[Message]:
    """One id per message while there is little to do (least latency, a dashboard shows each); several under backlog.

    at_once: how many a worker would claim in one go anyway, by what they last.
    A row that was lost before goes alone: it may be what killed its worker.
    """
    suspects = [row for row in rows if row.lost]
    healthy = [row for row in rows if not row.lost]
    size = min(max(len(rows) // (2 * max(slots, 1)), at_once, 1), MOST_IDS)
    for row in suspects:
        yield Message(ticket, (row.id,), _label([row]))
    for first in range(0, len(healthy), size):
        batch = healthy[first : first + size]
        yield Message(ticket, tuple(row.id for row in batch), _label(batch))


def _label(rows: list[Published]) -> str:
    first = f"{rows[0].machine}.{rows[0].action}"
    return first if len(rows) == 1 else f"{first} +{len(rows) - 1}"
