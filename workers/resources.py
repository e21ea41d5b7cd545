"""What effects share in one process: each `Effects(resources=)` entered once, and one event loop for async effects."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from fsm_core.registry import AnyEffects

T = TypeVar("T")

log = logging.getLogger(__name__)


class Loop:
    """One event loop in one thread, started when it is first needed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop and wait for it. Raises what it raises."""
        return self.submit(work).result()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `work` on the loop; cancelling what is returned cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def stop(self) -> None:
        """Stop the loop, if there is one."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
            if not self._thread.is_alive():
                self._loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._forever, args=(self._loop,), name="fsm-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    @staticmethod
    def _forever(loop: asyncio.AbstractEventLoop) -> None:
        while True:
            try:
                loop.run_forever()
            except (
                BaseException
            ):  # a task raised SystemExit or KeyboardInterrupt; its neighbours need the loop
                log.exception("a task of an effect raised what would end a process")
            else:
                return


class Resources:
    """The resources of every set of effects, entered at first use, left together at the end."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._entered: dict[int, object] = {}
        self._lock = threading.Lock()
        self._leaving: list[Callable[[], object]] = []

    def of(self, effects: AnyEffects) -> object:
        """What the factory's context manager yields. Raises what the factory or entering it raises; then tried again."""
        with self._lock:
            if id(effects) not in self._entered:
                self._entered[id(effects)] = self._enter(effects)
            return self._entered[id(effects)]

    def close(self) -> None:
        """Leave them all, the last entered first; what goes wrong with one is logged, and is not the others' trouble."""
        while self._leaving:
            try:
                self._leaving.pop()()
            except Exception:
                log.exception("a resource of the effects could not be closed")

    def _enter(self, effects: AnyEffects) -> object:
        if effects.resources is None:
            return None
        manager = effects.resources()
        if isinstance(manager, AbstractAsyncContextManager):
            entered = self._loop.run(_enter(manager))
            self._leaving.append(lambda: self._loop.run(_leave(manager)))
        else:
            entered = manager.__enter__()
            self._leaving.append(lambda: manager.__exit__(None, None, None))
        return entered


async def _enter(manager: AbstractAsyncContextManager[object]) -> object:
    return await manager.__aenter__()


async def _leave(manager: AbstractAsyncContextManager[object]) -> None:
    await manager.__aexit__(None, None, None)
