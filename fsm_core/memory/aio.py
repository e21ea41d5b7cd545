"""The asynchronous store in memory: the same rows, every verb awaited."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from fsm_core.delivery.waiters import Deadline
from fsm_core.memory.store import MOST, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fsm_core.delivery.waiters import Span
    from fsm_core.machine import Machine
    from fsm_core.memory.drain import Drained
    from fsm_core.records import Snapshot
    from fsm_core.types import Key

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")


def _verb(
    verb: Callable[Concatenate[MemoryStore, P], T],
) -> Callable[Concatenate[AsyncMemoryStore, P], Coroutine[Any, Any, T]]:
    """A verb of `MemoryStore`, to be awaited: the same signature, the same answer."""

    @wraps(verb)
    async def awaited(self: AsyncMemoryStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return verb(self._store, *args, **kwargs)

    return awaited


class AsyncMemoryStore:
    """As `AsyncPostgresStore`, over the rows of a `MemoryStore`.

    A test drives an async application by the one and looks with the other. No verb but `drain` and `wait` waits for anything.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.registry = store.registry
        self.clock = store.clock

    start = _verb(MemoryStore.start)
    advance = _verb(MemoryStore.advance)
    advance_many = _verb(MemoryStore.advance_many)
    signal = _verb(MemoryStore.signal)
    signal_or_start = _verb(MemoryStore.signal_or_start)

    preview = _verb(MemoryStore.preview)
    get = _verb(MemoryStore.get)
    state_at = _verb(MemoryStore.state_at)
    diff = _verb(MemoryStore.diff)
    history = _verb(MemoryStore.history)
    record = _verb(MemoryStore.record)
    machines = _verb(MemoryStore.machines)
    actions = _verb(MemoryStore.actions)
    action = _verb(MemoryStore.action)
    log = _verb(MemoryStore.log)
    logs = _verb(MemoryStore.logs)
    count = _verb(MemoryStore.count)

    retry = _verb(MemoryStore.retry)
    restore = _verb(MemoryStore.restore)
    upcast = _verb(MemoryStore.upcast)
    cancel = _verb(MemoryStore.cancel)
    cancel_action = _verb(MemoryStore.cancel_action)
    limit = _verb(MemoryStore.limit)
    limits = _verb(MemoryStore.limits)
    remove_limit = _verb(MemoryStore.remove_limit)
    prune = _verb(MemoryStore.prune)

    async def wait(
        self,
        machine: Machine[S, E, A],
        key: Key,
        timeout: Span | None = None,  # noqa: ASYNC109 - as the synchronous verb
    ) -> Snapshot[S]:
        """As `MemoryStore.wait`; another task or thread has to end it."""
        deadline, store, over = Deadline(timeout), self._store, False
        while not over:
            with store.waiters.waiting(store.get(machine, key).id) as end:
                over = store.get(machine, key).ended_at is not None or deadline.over
                if not over:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(asyncio.wrap_future(end), deadline.left)
        return deadline.judged(store.get(machine, key))

    async def drain(self, *, limit: int = MOST, jump: bool = False) -> Drained:
        """As `MemoryStore.drain`, in a thread of its own with a loop of its own: effects share nothing with this one."""
        return await asyncio.to_thread(self._store.drain, limit=limit, jump=jump)
