"""The processes of a run: started, killed, stopped, started again; each in a session of its own, and none outlives the harness."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

from fsm_core.postgres.crash import FILE, VARIABLE
from workers.dev.leash import leashed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ROOT = Path(__file__).parents[1]
GRACE = 20.0


@dataclass
class Child:
    """One process: what it is, how it is started, and what has become of it.

    env: on top of the harness's own. crashes: what it is armed with at its next starts; what it dies without reaching comes again.
    armed: with what it was started, and how long its log was then. ends: whether it is done when it ends well; else it is started again, whatever
    its status is. spared: no fault kills or stops it.
    """

    name: str
    kind: str
    argv: Sequence[str]
    env: Mapping[str, str]
    ends: bool = False
    crashes: list[str] = field(default_factory=list)
    armed: tuple[str, int] | None = None
    process: subprocess.Popen[bytes] | None = None
    stopped_until: float | None = None
    pids: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    wanted: bool = True
    spared: bool = False

    @property
    def pid(self) -> int | None:
        """The pid, while it runs."""
        return None if self.process is None or self.process.poll() is not None else self.process.pid

    @property
    def finished(self) -> bool:
        """Whether it has ended by itself, and well."""
        return self.statuses[-1:] == [0]


class Processes:
    """All of them, tended by one thread: a process dies with the thread that started it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[str, Child] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(self._children.values())

    def add(self, child: Child) -> Child:
        """Start one."""
        self._children[child.name] = child
        self._start(child)
        return child

    def victims(self, kind: str) -> list[Child]:
        """Those of a kind that run and are not spared."""
        return [child for child in self.every(kind) if child.pid is not None and not child.spared]

    def every(self, *kinds: str) -> list[Child]:
        """All of some kinds."""
        return [child for child in self._children.values() if child.kind in kinds]

    def tend(self) -> None:
        """Start again what has ended, and let those go on whose stop is over."""
        now = time.monotonic()
        for child in self._children.values():
            if child.stopped_until is not None and now >= child.stopped_until:
                self.resume(child)
            if child.process is not None and (status := child.process.poll()) is not None:
                _kill_group(child.process.pid)
                child.statuses.append(status)
                child.process = None
                self._rearm(child)
                if child.wanted and not (child.ends and status == 0):
                    self._start(child)

    def kill(self, child: Child) -> None:
        """SIGKILL it and what it has forked."""
        if child.process is not None:
            _kill_group(child.process.pid)
            child.stopped_until = None

    def kill_fork(self, child: Child, pid: int) -> None:
        """SIGKILL one that it has forked."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).ppid() == child.pid:
                os.kill(pid, signal.SIGKILL)

    def stop(self, child: Child, seconds: float) -> None:
        """SIGSTOP it for so long; `tend` lets it go on."""
        if child.pid is not None:
            _signal_group(child.pid, signal.SIGSTOP)
            child.stopped_until = time.monotonic() + seconds

    def resume(self, child: Child) -> None:
        """SIGCONT."""
        child.stopped_until = None
        if child.pid is not None:
            _signal_group(child.pid, signal.SIGCONT)

    def end(self, children: Iterable[Child]) -> None:
        """SIGTERM, and SIGKILL for what is left after the grace."""
        ending = [child for child in children if child.process is not None]
        for child in ending:
            child.wanted = False
            self.resume(child)
            assert child.process is not None
            child.process.terminate()
        deadline = time.monotonic() + GRACE
        for child in ending:
            assert child.process is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(deadline - time.monotonic(), 0.01))
            _kill_group(child.process.pid)
            child.statuses.append(child.process.wait())
            child.process = None

    def disarm(self) -> None:
        """Nobody is to die at a crash point any more, now or after a new start."""
        for child in self._children.values():
            child.crashes.clear()
            child.armed = None
            self._orders(child).unlink(missing_ok=True)

    def log(self, child: Child) -> Path:
        """What it has said."""
        return self._folder / f"{child.name}.log"

    def _orders(self, child: Child) -> Path:
        return self._folder / f"{child.name}.orders"

    def _start(self, child: Child) -> None:
        extra: dict[str, str] = {}
        with self.log(child).open("ab") as output:
            if child.crashes:
                child.armed = (child.crashes.pop(0), output.tell())
                self._orders(child).write_text(child.armed[0])
                extra[VARIABLE] = f"{FILE}{self._orders(child)}"
            child.process = subprocess.Popen(
                leashed([sys.executable, "-m", "chaos.entry", *child.argv], death_signal=signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PGAPPNAME": child.name, **child.env, **extra},
                cwd=ROOT,
                start_new_session=True,
            )
        child.pids.append(child.process.pid)
        child.stopped_until = None

    def _rearm(self, child: Child) -> None:
        """If something else has killed it before it got to where it was to die: there the next time."""
        if child.armed is not None:
            point, before = child.armed
            with self.log(child).open("rb") as log:
                log.seek(before)
                if f"crash point {point.partition(':')[0]}".encode() not in log.read():
                    child.crashes.insert(0, point)
        child.armed = None


def forks(child: Child) -> list[int]:
    """The pids of what it has forked."""
    try:
        return [] if child.pid is None else [each.pid for each in psutil.Process(child.pid).children()]
    except psutil.NoSuchProcess:
        return []


def _kill_group(pid: int) -> None:
    _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
