"""Waiting in tests: for a condition, with a deadline, never for a time."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

_POLL = 0.02

T = TypeVar("T")


def eventually(predicate: Callable[[], T], *, timeout: float = 10.0, what: str) -> T:
    """Waits until `predicate()` is true and returns what it gave.

    Args:
        predicate: Is asked again and again.
        timeout: Seconds to wait at most.
        what: What is waited for, as the error names it.

    Raises:
        TimeoutError: It did not become true in time.
    """
    pause = threading.Event()
    deadline = time.monotonic() + timeout
    while not (result := predicate()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what} (last answer: {result!r})")
        pause.wait(_POLL)
    return result
