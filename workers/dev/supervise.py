"""Runs named child processes: starts them, starts again what dies, and ends them all whatever happens.

Each child leads a session of its own, so that a terminal's Ctrl-C reaches the supervisor alone, which then ends them
in order. They are on a leash (`workers.dev.leash`): they also go if the supervisor is ended by SIGKILL.

One thread, the keeper, starts and ends all children. The leash is why: the kernel ties a child to the thread that
started it.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from workers.dev.leash import leashed

__all__ = ["Command", "Ended", "Supervisor", "next_delay", "signals_end"]

_FIRST_DELAY = 0.2
_LONGEST_DELAY = 5.0
_STEADY_AFTER = 30.0
_POLL = 0.05
_ENDING = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Command:
    """What to run.

    Attributes:
        argv: The program and its arguments.
        env: Variables on top of the supervisor's own.
        cwd: The directory to run in, if not the supervisor's.
        log: The file that takes its output, appended; without one it shares the supervisor's.
        restart: Whether it is started again when it ends by itself.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    log: Path | None = None
    restart: bool = True


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that ended by itself.

    Attributes:
        name: Its name.
        status: Its exit status; negative is the signal that ended it.
        again_in: Seconds until it is started again; None if it is not.
    """

    name: str
    status: int
    again_in: float | None


def next_delay(delay: float, lived: float) -> float:
    """Seconds to wait before starting a child again that was started after `delay` and then lived for `lived`."""
    if delay == 0 or lived >= _STEADY_AFTER:
        return _FIRST_DELAY
    return min(delay * 2, _LONGEST_DELAY)


def _start(command: Command) -> subprocess.Popen[bytes]:
    with contextlib.ExitStack() as stack:
        output = None if command.log is None else stack.enter_context(command.log.open("ab"))
        return subprocess.Popen(
            leashed(command.argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            env={**os.environ, **command.env},
            cwd=command.cwd,
            start_new_session=True,
        )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Ends what a child has left of its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class _Child:
    """One child, as the keeper sees it."""

    def __init__(self, name: str, command: Command) -> None:
        self.name = name
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.pid = 0
        self.error: OSError | None = None
        self._delay = 0.0
        self._started = 0.0
        self._due: float | None = 0.0

    def tend(self, now: float) -> Ended | None:
        """Starts it if it is due; says so if it has ended."""
        if self.process is None:
            if self._due is not None and now >= self._due:
                self._begin(now)
            return None
        status = self.process.poll()
        if status is None:
            return None
        _kill_group(self.process)
        self.process = None
        self._due = None
        again_in = None
        if self.command.restart:
            self._delay = again_in = next_delay(self._delay, now - self._started)
            self._due = now + again_in
        return Ended(self.name, status, again_in)

    def _begin(self, now: float) -> None:
        self._started, self._due = now, None
        self.starts += 1
        try:
            self.process = _start(self.command)
            self.pid = self.process.pid
        except OSError as error:
            self.error = error


class Supervisor:
    """A context that runs child processes and ends them when it is left.

    In the main thread SIGTERM and SIGHUP leave the context too, as `SystemExit`. While children are being ended, a
    Ctrl-C ends them at once.

    Args:
        grace: Seconds between SIGTERM and SIGKILL when a child is ended.
        on_end: Is told, in the keeper's thread, of each child that ends by itself.
    """

    def __init__(self, *, grace: float = 10.0, on_end: Callable[[Ended], None] | None = None) -> None:
        self._grace = grace
        self._on_end = on_end
        self._children: dict[str, _Child] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._hurry = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="supervisor", daemon=True)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(signals_end())
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            self._close()

    def start(self, name: str, command: Command) -> int:
        """Starts a child.

        Args:
            name: How it is asked for.
            command: What to run.

        Returns:
            Its pid.

        Raises:
            ValueError: The name is taken.
            OSError: Its log or directory cannot be opened.
            RuntimeError: The supervisor has been closed.
        """
        with self._changed:
            if name in self._children:
                raise ValueError(f"there is a child named {name!r} already")
            child = self._children[name] = _Child(name, command)
            self._changed.notify_all()
            self._changed.wait_for(lambda: child.starts > 0 or self._closing)
            if child.error is not None:
                del self._children[name]
                raise child.error
            if child.starts == 0:
                raise RuntimeError("the supervisor has been closed")
            return child.pid

    def pid(self, name: str, timeout: float = 30.0) -> int:
        """The pid of a child; waits while it is about to be started again.

        Raises:
            KeyError: There is no child of that name.
            TimeoutError: It is not running.
        """
        with self._changed:
            child = self._children[name]
            if (
                not self._changed.wait_for(lambda: child.process is not None, timeout)
                or child.process is None
            ):
                raise TimeoutError(f"{name!r} is not running")
            return child.process.pid

    def starts(self, name: str) -> int:
        """How often a child has been started."""
        with self._changed:
            return self._children[name].starts

    def stop(self, name: str) -> None:
        """Ends a child for good.

        Raises:
            KeyError: There is no child of that name.
        """
        with self._changed:
            child = self._children.pop(name)
            self._changed.notify_all()
        self._end([child])

    def wait(self) -> None:
        """Waits until a signal leaves the context."""
        threading.Event().wait()

    def _keep(self) -> None:
        try:
            while not self._closing:
                for ended in self._tend():
                    if self._on_end is not None:
                        self._on_end(ended)
        finally:
            with self._changed:
                self._closing = True
                children = list(self._children.values())
                self._changed.notify_all()
            self._end(children)

    def _tend(self) -> list[Ended]:
        """One look at all children, after a pause or a change."""
        with self._changed:
            now = time.monotonic()
            found = [child.tend(now) for child in self._children.values()]
            self._changed.notify_all()
            ended = [end for end in found if end is not None]
            if not ended:
                self._changed.wait(_POLL)
            return ended

    def _end(self, children: Sequence[_Child]) -> None:
        """SIGTERM to all, SIGKILL to what is still there after the grace or when hurried."""
        processes = [child.process for child in children if child.process is not None]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + self._grace
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            if self._hurry.wait(_POLL):
                break
        for process in processes:
            _kill_group(process)
            process.wait()

    def _close(self) -> None:
        if threading.current_thread() is threading.main_thread():
            _ignore_signals()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        while self._keeper.is_alive():
            try:
                self._keeper.join()
            except KeyboardInterrupt:
                self._hurry.set()


def _ignore_signals() -> None:
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def signals_end() -> Generator[None]:
    """While it lasts, SIGTERM and SIGHUP raise `SystemExit` in the main thread; elsewhere it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
