"""Calls that threads make at once: one of them decides and writes for all who wait."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

from fsm_core.postgres.flows.many import Answer
from fsm_core.postgres.groups import Queue, Queues, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from fsm_core.postgres.flows.advance import Call

log = logging.getLogger(__name__)

_Waiting: TypeAlias = Waiting[threading.Event]


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
        """What became of `call`, maybe done with others of its kind. Neither a snapshot nor a refusal: it is to be done alone.

        Raises what `do` raises for it alone.
        """
        mine = Waiting(call, threading.Event())
        queue: Queue[_Waiting] = Queue()
        try:  # from here on Ctrl-C may come at any point: whoever is behind must not wait for one who has left
            with self._lock:
                queue = self._queues.of(kind, monotonic())
                leads = queue.joins(mine)
                if queue.full and queue.leader is not None:
                    queue.leader.told.set()  # it may be waiting for just this
            if not leads and not mine.told.wait(self._patience):
                self._lose_patience(queue, mine)
            if mine.answer is None:
                self._lead(queue, mine)
        except BaseException:
            self._leave(queue, mine)
            raise
        return mine.answer or Answer(call)

    def _lead(self, queue: Queue[_Waiting], mine: _Waiting) -> None:
        """Do `mine` and what waits, and let the next one lead."""
        with self._lock:
            gap = queue.gap(monotonic())
            if gap:
                mine.told.clear()
        mine.told.wait(gap)
        with self._lock:
            mine.others = queue.taken()
        group = [mine, *mine.others]
        try:
            for each, answer in zip(group, self._do([each.call for each in group]), strict=True):
                each.answer = answer
        except Exception as error:
            if not mine.others:
                raise
            log.debug("%d calls are done one by one, to see whose it is: %s", len(group), error)
        self._leave(queue, mine)

    def _lose_patience(self, queue: Queue[_Waiting], mine: _Waiting) -> None:
        """Lead, unless somebody has taken the call up at last."""
        with self._lock:
            usurped = queue.usurps(mine)
        if not usurped:
            mine.told.wait()

    def _leave(self, queue: Queue[_Waiting], mine: _Waiting) -> None:
        with self._lock:
            mine.leave(queue, monotonic())


_everybody: weakref.WeakSet[Together] = weakref.WeakSet()


def _forked() -> None:
    for each in _everybody:
        each.clear()


os.register_at_fork(after_in_child=_forked)
