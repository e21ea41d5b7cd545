"""Bounds of queues inside one process: Celery has one pool for all the queues of a worker, and a slow queue must not fill it."""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING

from workers.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from fsm_core.types import ActionId


class Bound:
    """How many effects of one queue may run at once, and the ids that wait here until one of them has ended.

    What waits stays published under its ticket: if this process dies, the reconciler sends it again; if it waits for long, a
    copy of its message reaches whoever has room, and the later claim finds the ticket used. The relay's window bounds how much
    that can be. A lane is a thread that runs one effect of the queue after another for as long as any waits.
    """

    def __init__(self, slots: int) -> None:
        self.pace = Pace()
        self._free = slots
        self._waiting: dict[tuple[UUID, ActionId], bool] = {}
        self._lock = threading.Lock()

    def put(self, ticket: UUID, ids: Sequence[ActionId]) -> int:
        """Let `ids` wait, each once. Returns how many lanes the caller must run for them: as many as are free and needed."""
        alone = len(ids) == 1  # it may be one that was lost before: nothing is claimed together with it
        with self._lock:
            self._waiting |= {(ticket, each): alone for each in ids}
            lanes = min(self._free, len(self._waiting))
            self._free -= lanes
            return lanes

    def next(self) -> tuple[UUID, list[ActionId]] | None:
        """What a lane does next: ids of one ticket. None: nothing waits, and the lane has ended.

        Both under one lock: what is put just then finds either this lane at work or its slot free.
        """
        with self._lock:
            first = next(iter(self._waiting), None)
            if first is None:
                self._free += 1
                return None
            ticket = first[0]
            ahead = 0 if self._waiting[first] else self.pace.ahead
            together = (of for of, alone in self._waiting.items() if of[0] == ticket and not alone)
            alike = [first] if ahead == 0 else list(islice(together, 1 + ahead))
            for of in alike:
                del self._waiting[of]
            return ticket, [of[1] for of in alike]

    def rest(self) -> list[tuple[UUID, ActionId]]:
        """Take all that waits: nobody here starts it any more."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
            return waiting

    def leave(self, lanes: int) -> None:
        """Give back lanes that were not run; somebody else's go on with what waits."""
        with self._lock:
            self._free += lanes
