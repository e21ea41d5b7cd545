"""Calls for one machine that many threads make at once: one of them decides and writes for all who wait.

Each alone under the machine's lock would hold it over a read, a write and a wait for the disk; together they are one unit, and one wait.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING

from fsm_core.postgres.flows.many import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsm_core.births import Address
    from fsm_core.postgres.flows.advance import Call

log = logging.getLogger(__name__)

MOST = 100
"""How many calls one thread does: those behind it wait for as long."""


@dataclass(eq=False)
class _Waiting:
    """A call, and who waits for it. Told without an answer: it leads."""

    call: Call
    answer: Answer | None = None
    told: threading.Event = field(default_factory=threading.Event)


class Together:
    """Who waits for which machine, in this process. do: decides and writes calls, all for one machine."""

    def __init__(self, do: Callable[[Sequence[Call]], Sequence[Answer]]) -> None:
        self._do = do
        self._lock = threading.Lock()
        self._waiting: dict[Address, list[_Waiting]] = {}

    def ask(self, call: Call) -> Answer:
        """What became of `call`. Neither a snapshot nor a refusal: it is to be done alone."""
        address, mine = (call.machine.name, call.key), _Waiting(call)
        with self._lock:
            if address not in self._waiting:
                mine.told.set()
            self._waiting.setdefault(address, []).append(mine)
        try:
            mine.told.wait()
            return mine.answer or self._lead(address, mine)
        except BaseException:  # Ctrl-C: whoever is behind must not wait for one who has left
            self._leave(address, mine)
            raise

    def _lead(self, address: Address, mine: _Waiting) -> Answer:
        """Do what waits, `mine` first, and let the next one lead."""
        group: list[_Waiting] = []
        answers: Sequence[Answer] = []
        try:
            with self._lock:
                queue = self._waiting[address]
                group, queue[:MOST] = queue[:MOST], []
            answers = self._do([each.call for each in group])
        except Exception as error:  # noqa: BLE001 - whose it is shows when each is done alone
            log.debug("%d calls are done one by one: %s", len(group), error)
        finally:
            with self._lock:
                for each, answer in zip_longest(group, answers):
                    each.answer = answer or Answer(each.call)
                    each.told.set()
                self._pass_on(address)
        return mine.answer or Answer(mine.call)

    def _leave(self, address: Address, mine: _Waiting) -> None:
        with self._lock:
            queue = self._waiting.get(address, [])
            if mine in queue:
                queue.remove(mine)
                if mine.told.is_set():
                    self._pass_on(address)

    def _pass_on(self, address: Address) -> None:
        if queue := self._waiting[address]:
            queue[0].told.set()
        else:
            del self._waiting[address]
