"""Calls that threads make at once: one of them decides and writes for all who wait."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from dataclasses import dataclass, field
from itertools import zip_longest
from time import monotonic
from typing import TYPE_CHECKING

from fsm_core.postgres.flows.many import Answer
from fsm_core.postgres.groups import Queue, Queues

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from fsm_core.postgres.flows.advance import Call

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Waiting:
    """A call, and who waits for it. Told without an answer: it leads."""

    call: Call
    answer: Answer | None = None
    told: threading.Event = field(default_factory=threading.Event)


class Together:
    """Who waits for what, in this process.

    do: decides and writes calls of one kind. patience: seconds after which a call waits no longer for others; None: for ever.
    """

    def __init__(self, do: Callable[[Sequence[Call]], Sequence[Answer]], patience: float | None) -> None:
        self._do = do
        self._patience = patience
        self.clear()
        _everybody.add(self)

    def clear(self) -> None:
        """Nobody waits. In a process that was forked, those who did are threads of another."""
        self._lock = threading.Lock()
        self._queues: Queues[_Waiting] = Queues()

    def ask(self, kind: Hashable, call: Call) -> Answer:
        """What became of `call`, maybe done with others of its kind. Neither a snapshot nor a refusal: it is to be done alone."""
        mine = _Waiting(call)
        with self._lock:
            queue = self._queues.of(kind, monotonic())
            if queue.joins(mine):
                mine.told.set()
            elif queue.full and queue.leader is not None:
                queue.leader.told.set()  # it may be waiting for just this
        try:
            if not mine.told.wait(self._patience):
                self._lose_patience(queue, mine)
            return mine.answer or self._lead(queue, mine)
        except BaseException:  # Ctrl-C: whoever is behind must not wait for one who has left
            self._leave(queue, mine)
            raise

    def _lead(self, queue: Queue[_Waiting], mine: _Waiting) -> Answer:
        """Do `mine` and what waits, and let the next one lead."""
        with self._lock:
            gap = queue.gap(monotonic())
            if gap:
                mine.told.clear()
        mine.told.wait(gap)
        with self._lock:
            group = queue.taken(mine)
        answers: Sequence[Answer] = []
        try:
            answers = self._do([each.call for each in group])
        except Exception as error:  # noqa: BLE001 - whose it is shows when each is done alone
            log.debug("%d calls are done one by one: %s", len(group), error)
        finally:
            with self._lock:
                for each, answer in zip_longest(group, answers):
                    each.answer = answer or Answer(each.call)
                    each.told.set()
                self._over(queue, mine, len(group))
        return mine.answer or Answer(mine.call)

    def _lose_patience(self, queue: Queue[_Waiting], mine: _Waiting) -> None:
        """Lead, unless somebody has taken the call up at last."""
        with self._lock:
            usurped = queue.usurps(mine)
        if not usurped:
            mine.told.wait()

    def _leave(self, queue: Queue[_Waiting], mine: _Waiting) -> None:
        with self._lock:
            if mine in queue.waiting:
                queue.waiting.remove(mine)
            elif mine.answer is None:
                self._over(queue, mine, 1)

    def _over(self, queue: Queue[_Waiting], mine: _Waiting, size: int) -> None:
        following = queue.over(mine, size, monotonic())
        if following is not None:
            following.told.set()


_everybody: weakref.WeakSet[Together] = weakref.WeakSet()


def _forked() -> None:
    for each in _everybody:
        each.clear()


os.register_at_fork(after_in_child=_forked)
