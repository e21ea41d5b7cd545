"""What both parts of the demo share: the stack they play on, and a watch over its processes."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from sqlalchemy import Engine

from examples.flaky import Server
from fsm_core.postgres import PostgresStore
from workers.dev.supervise import Ended, Supervisor

PATIENCE = 60.0
"""Seconds without any progress after which the demo gives up."""

MOST_ENDS = 5
LOOK_EVERY = 0.05
TAIL = 15


class DemoError(Exception):
    """What went wrong, with the end of the log that says why."""


@dataclass
class Watch:
    """Hears of processes that end. One that is stopped or killed is no failure: the supervisor starts it again."""

    console: Console
    directory: Path
    ended: list[Ended] = field(default_factory=list)
    seen: int = 0

    def check(self) -> None:
        """Tell of what has ended. Raises DemoError, if a process gave up or does not stay alive."""
        while self.seen < len(self.ended):
            ended = self.ended[self.seen]
            self.seen += 1
            if ended.status > 0 or self.seen > MOST_ENDS:
                raise DemoError(f"{ended.name} ended with status {ended.status}; {self.tail(ended.name)}")
            how = f"was ended by {signal.Signals(-ended.status).name}" if ended.status else "has ended"
            self.console.print(f"  {ended.name} {how}; the supervisor starts it again", style="yellow")

    def until(self, count: Callable[[], int], target: int, what: str) -> None:
        """Wait until `count()` reaches `target`. Raises DemoError, if it does not move for a minute."""
        best, since = -1, time.monotonic()
        while (now := count()) < target:
            self.check()
            if now > best:
                best, since = now, time.monotonic()
            if time.monotonic() - since > PATIENCE:
                logs = "\n".join(self.tail(name) for name in ("relay", "worker-1"))
                raise DemoError(f"{what}: {best} of {target}, and nothing moved for {PATIENCE:.0f} s\n{logs}")
            time.sleep(LOOK_EVERY)

    def tail(self, name: str) -> str:
        """The end of a process's log."""
        try:
            lines = (self.directory / f"{name}.log").read_text(errors="replace").splitlines()[-TAIL:]
        except OSError:
            lines = []
        return "\n".join([f"the end of the log of {name}:", *(f"    {line}" for line in lines)])


@dataclass(frozen=True)
class Scene:
    """The stack, and where to show what happens on it. tag: the end of every key, where a database is not the demo's own."""

    console: Console
    watch: Watch
    supervisor: Supervisor
    engine: Engine
    store: PostgresStore
    shop: Server
    directory: Path
    tag: str = ""
