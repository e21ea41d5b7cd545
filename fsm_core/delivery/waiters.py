"""Who in this process waits for the end of which machine."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from fsm_core.errors import WaitTimeout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from fsm_core.records import Snapshot

S = TypeVar("S")

Span: TypeAlias = timedelta | float
"""A length of time: a timedelta, or seconds."""


class Waiters:
    """Waiting calls by machine, each a future without a value. Thread-safe. To be woken is a hint: whoever waited looks again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[UUID, set[Future[None]]] = {}

    @contextmanager
    def waiting(self, machine: UUID) -> Iterator[Future[None]]:
        """A future that is done when somebody wakes this machine's waiters. What was read before may be out of date by then."""
        end: Future[None] = Future()
        with self._lock:
            self._of.setdefault(machine, set()).add(end)
        try:
            yield end
        finally:
            with self._lock:
                left = self._of.get(machine, set())
                left.discard(end)
                if not left:
                    self._of.pop(machine, None)

    def machines(self) -> set[UUID]:
        """Those that somebody waits for."""
        with self._lock:
            return set(self._of)

    def wake(self, machines: Iterable[UUID]) -> None:
        """Wake those who wait for these machines."""
        for end in self._taken(machines):
            if end.set_running_or_notify_cancel():
                end.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Raise `error` in everybody who waits."""
        for end in self._taken(self.machines()):
            if end.set_running_or_notify_cancel():
                end.set_exception(error)

    def _taken(self, machines: Iterable[UUID]) -> list[Future[None]]:
        with self._lock:
            return [end for machine in machines for end in self._of.pop(machine, ())]


class Deadline:
    """When a wait is over. timeout: from now, a timedelta or seconds; None: never. It is the process's own clock that counts."""

    def __init__(self, timeout: Span | None) -> None:
        self.seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        self._at = None if self.seconds is None else time.monotonic() + self.seconds

    @property
    def left(self) -> float | None:
        """Seconds until then, not below 0; None: for ever."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def judged(self, now: Snapshot[S]) -> Snapshot[S]:
        """`now`, if it has ended. Raises WaitTimeout."""
        if now.ended_at is None:
            raise WaitTimeout(now, self.seconds or 0)
        return now

    @property
    def over(self) -> bool:
        """Whether it is past."""
        return self.left == 0
