"""A rival that is up: its client, its processes, what they do and what they use."""

import json
import os
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Protocol, cast

import psutil

from benchmarks.rivals import ROOT, Rival
from workers.dev.leash import leashed
from workers.dev.supervise import Command, Supervisor

PATIENCE = 60.0
"""Seconds without one cycle more after which a turn is given up."""


class Stuck(Exception):
    """A rival does not come to an end; with the tails of its logs."""


class Place(Protocol):
    """What a rival needs of the world."""

    @property
    def folder(self) -> Path: ...
    @property
    def supervisor(self) -> Supervisor: ...
    @property
    def server_pids(self) -> Mapping[str, int]: ...


class Client:
    """A rival's client process, which takes one command at a time."""

    def __init__(self, rival: Rival, env: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                leashed([rival.python, "-m", f"benchmarks.peers.{rival.module}", "serve"]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **env},
                cwd=ROOT,
                text=True,
            )
        self.pid = self._process.pid

    def ask(self, verb: str, **options: float) -> object:
        """What the verb of `Peer` answers. Raises RuntimeError with what it raised there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": verb, **options}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": f"it ended: {self._log.read_text()[-3000:]}"}
        if "error" in answer:
            raise RuntimeError(f"{verb}: {answer['error']}")
        value: object = answer["value"]
        return value

    def close(self) -> None:
        """Let it go."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True)
class Turn:
    """What one turn took. rate: cycles/s. cpu: process -> its microseconds for one cycle."""

    rate: float
    cpu: Mapping[str, float]


class Running:
    """A rival that is up, in one database."""

    def __init__(self, rival: Rival, database_url: str, broker_url: str, place: Place) -> None:
        self._place = place
        self.rival = rival
        self.database_url = database_url
        self.env = {
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "PYTHONPATH": str(ROOT),
            "BENCH_VARIANT": rival.variant,
            "PYTHONUNBUFFERED": "1",
            **rival.env,
        }
        self._id = uuid.uuid4().hex[:8]
        self.client = Client(rival, self.env, self._log("client"))
        self.processes: dict[str, int] = {}

    def start(self, *names: str) -> None:
        """Start its processes (all of them without names)."""
        for name in names or self.rival.processes:
            argv = [self.rival.python, "-m", *self.rival.processes[name]]
            command = Command(argv, env=self.env, cwd=ROOT, log=self._log(name), restart=False)
            self.processes[name] = self._place.supervisor.start(f"{name}-{self._id}", command)

    def close(self) -> None:
        """End everything."""
        self.client.close()
        for name in self.processes:
            self._place.supervisor.stop(f"{name}-{self._id}")
        self.processes.clear()

    def done(self) -> int:
        """Cycles that have ended."""
        return int(str(self.client.ask("done")))

    def one(self) -> tuple[float, float]:
        """One cycle: when it was committed, when its effect began."""
        committed, began = cast("list[float]", self.client.ask("one"))
        return committed, began

    def turn(self, verb: str, count: int, **options: float) -> Turn:
        """Begin `count` cycles by `verb` and wait for their end. Raises Stuck."""
        before, spent, begin = self.done(), self.cpu(), perf_counter()
        self.client.ask(verb, count=count, **options)
        return self._finish(before, count, spent, begin)

    def only(self, verb: str, count: int, **options: float) -> float:
        """Begin `count` cycles by `verb` and wait for nothing; how many were committed in a second."""
        begin = perf_counter()
        self.client.ask(verb, count=count, **options)
        return count / (perf_counter() - begin)

    def drain(self, count: int, batch: int, *names: str, **options: float) -> Turn:
        """Begin `count` cycles while no process runs, then start some. Their start counts no more than their first cycle."""
        before = self.done()
        self.client.ask("submit_many", count=count, batch=batch, **options)
        self.start(*names)
        begin = monotonic()
        while (first := self.done()) == before:
            self._check(begin, 0, count)
            sleep(0.02)
        return self._finish(first, count - (first - before), self.cpu(), perf_counter())

    def cpu(self) -> dict[str, float]:
        """Seconds that the client, the processes and the servers have used so far."""
        pids = {"client": self.client.pid, **self.processes, **self._place.server_pids}
        return {name: spent_by(pid) for name, pid in pids.items()}

    def logs(self) -> str:
        """The ends of its logs."""
        files = self._place.folder.glob(f"*-{self._id}.log")
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-1500:]}" for file in files)

    def _finish(self, before: int, count: int, spent: Mapping[str, float], begin: float) -> Turn:
        seen, moved = before, monotonic()
        while (now := self.done()) < before + count:
            if now > seen:
                seen, moved = now, monotonic()
            self._check(moved, now - before, count)
            # Looks cost something: few while much is left, more towards the end.
            rate = max(now - before, 1) / (perf_counter() - begin)
            sleep(min(max((before + count - now) / rate / 3, 0.01), 0.5))
        seconds = max(perf_counter() - begin, 1e-6)
        used = {name: (now - spent[name]) / max(count, 1) * 1e6 for name, now in self.cpu().items()}
        return Turn(max(count, 1) / seconds, used)

    def _check(self, moved: float, done: int, count: int) -> None:
        alive = all(map(psutil.pid_exists, self.processes.values()))
        if monotonic() - moved > PATIENCE or not alive:
            raise Stuck(f"{self.rival.name}: {done} of {count} cycles\n{self.logs()}")

    def _log(self, name: str) -> Path:
        return self._place.folder / f"{name}-{self._id}.log"


def family(pid: int) -> list[psutil.Process]:
    """A process and those that it started; none, if it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def spent_by(pid: int) -> float:
    """Seconds of CPU of a process, of those it started and of those that they have outlived."""
    total = 0.0
    for each in family(pid):
        try:
            total += sum(each.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total
