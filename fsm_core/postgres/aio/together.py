"""Calls that tasks make at once: one of them decides and writes for all who wait. As `fsm_core.postgres.sync.together`."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from itertools import zip_longest
from time import monotonic
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from fsm_core.postgres.flows.many import Answer
from fsm_core.postgres.groups import Queue, Queues

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

    from fsm_core.postgres.flows.advance import Call

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Waiting:
    """A call, and who waits for it. Told without an answer: it leads."""

    call: Call
    answer: Answer | None = None
    told: asyncio.Event = field(default_factory=asyncio.Event)


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
        mine = _Waiting(call)
        queue = self._loops.setdefault(asyncio.get_running_loop(), Queues()).of(kind, monotonic())
        leads = queue.joins(mine)
        if not leads and queue.full and queue.leader is not None:
            queue.leader.told.set()  # it may be waiting for just this
        try:
            if not leads:
                await self._waited(queue, mine)
            return mine.answer or await self._lead(queue, mine)
        except BaseException:  # cancelled: whoever is behind must not wait for one who has left
            self._leave(queue, mine)
            raise

    async def _waited(self, queue: Queue[_Waiting], mine: _Waiting) -> None:
        """Until it is told, or takes the lead."""
        if not await _told(mine, self._patience) and not queue.usurps(mine):
            await mine.told.wait()

    async def _lead(self, queue: Queue[_Waiting], mine: _Waiting) -> Answer:
        """Do `mine` and what waits, and let the next one lead."""
        if gap := queue.gap(monotonic()):
            mine.told.clear()
            await _told(mine, gap)
        group = queue.taken(mine)
        answers: Sequence[Answer] = []
        try:
            answers = await self._do([each.call for each in group])
        except Exception as error:  # noqa: BLE001 - whose it is shows when each is done alone
            log.debug("%d calls are done one by one: %s", len(group), error)
        finally:
            for each, answer in zip_longest(group, answers):
                each.answer = answer or Answer(each.call)
                each.told.set()
            _over(queue, mine, len(group))
        return mine.answer or Answer(mine.call)

    @staticmethod
    def _leave(queue: Queue[_Waiting], mine: _Waiting) -> None:
        if mine in queue.waiting:
            queue.waiting.remove(mine)
        elif mine.answer is None:
            _over(queue, mine, 1)


async def _told(mine: _Waiting, seconds: float | None) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await mine.told.wait()
    except TimeoutError:
        return False


def _over(queue: Queue[_Waiting], mine: _Waiting, size: int) -> None:
    following = queue.over(mine, size, monotonic())
    if following is not None:
        following.told.set()
