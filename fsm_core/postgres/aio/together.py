"""Calls that tasks make at once: one of them decides and writes for all who wait. As `fsm_core.postgres.sync.together`."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

from fsm_core.postgres.flows.many import Answer
from fsm_core.postgres.groups import Queue, Queues, Waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

    from fsm_core.postgres.flows.advance import Call

log = logging.getLogger(__name__)

_Waiting: TypeAlias = Waiting[asyncio.Event]


class AsyncTogether:
    """Who waits for what, in this process: tasks of one event loop go together. do, patience: as those of `Together`."""

    def __init__(
        self, do: Callable[[Sequence[Call]], Awaitable[Sequence[Answer]]], patience: float | None
    ) -> None:
        self._do = do
        self._patience = patience
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Queues[_Waiting]] = WeakKeyDictionary()

    async def ask(self, kind: Hashable, call: Call) -> Answer:
        """As `Together.ask`."""
        mine = Waiting(call, asyncio.Event())
        queue = self._loops.setdefault(asyncio.get_running_loop(), Queues()).of(kind, monotonic())
        leads = queue.joins(mine)
        if queue.full and queue.leader is not None:
            queue.leader.told.set()  # it may be waiting for just this
        try:
            if not leads and not await _told(mine, self._patience) and not queue.usurps(mine):
                await mine.told.wait()  # somebody has taken it up at last
            if mine.answer is None:
                await self._lead(queue, mine)
        except BaseException:  # cancelled: whoever is behind must not wait for one who has left
            mine.leave(queue, monotonic())
            raise
        return mine.answer or Answer(call)

    async def _lead(self, queue: Queue[_Waiting], mine: _Waiting) -> None:
        """Do `mine` and what waits, and let the next one lead."""
        if gap := queue.gap(monotonic()):
            mine.told.clear()
            await _told(mine, gap)
        mine.others = queue.taken()
        group = [mine, *mine.others]
        try:
            for each, answer in zip(group, await self._do([each.call for each in group]), strict=True):
                each.answer = answer
        except Exception as error:
            if not mine.others:
                raise
            log.debug("%d calls are done one by one, to see whose it is: %s", len(group), error)
        mine.leave(queue, monotonic())


async def _told(mine: _Waiting, seconds: float | None) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await mine.told.wait()
    except TimeoutError:
        return False
