"""The faults: what is done to a run, when, and whether it hit work in flight."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from chaos.processes import Child, forks
from chaos.truth import JOURNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from chaos.plan import Plan
    from chaos.processes import Processes
    from chaos.proxy import Proxy
    from chaos.servers import Postgres, Valkey

TRIES = 3
AIM = 6.0
"""For how long a fault waits for something in flight before it is done anyway."""

BREATH = (
    "kill_worker",
    "kill_child",
    "kill_relay",
    "stop_worker",
    "stop_relay",
    "kill_broker",
    "stop_postgres",
    "postgres_away",
)
"""Faults that wait until what the ones before have killed is there again."""

LONGEST_BREATH, BREATH_STEP = 30.0, 0.2
UP = """SELECT count(*) FILTER (WHERE kind = 'node'), count(*) FILTER (WHERE kind = 'relay') FROM fsm.workers
         WHERE dead_at IS NULL AND alive_until > clock_timestamp()"""
RUNNING = """SELECT w.pid, count(*) FROM fsm.actions a JOIN fsm.workers w ON w.id = a.worker_id
              WHERE a.status = 'running' AND w.dead_at IS NULL GROUP BY w.pid"""
UNSETTLED = "SELECT count(*) FROM fsm.actions WHERE status IN ('pending', 'published', 'running')"
PUBLISHED = "SELECT count(*) FROM fsm.actions WHERE status IN ('pending', 'published')"
BACKENDS = """SELECT pid, state <> 'idle' FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
               AND application_name <> 'harness' ORDER BY (state = 'active') DESC, random() LIMIT 3"""


@dataclass
class World:
    """What faults are done to."""

    plan: Plan
    folder: Path
    database: str
    postgres: Postgres
    valkey: Valkey
    processes: Processes
    proxies: Sequence[Proxy] = ()
    restarts: list[tuple[float, float]] = field(default_factory=list)
    """When Postgres was gone, and when it answered again, by its own clock."""


@dataclass
class Due:
    """A fault that is to happen. until: when it is done even if nothing is in flight. first: when it was first put off."""

    at: float
    name: str
    until: float = 0.0
    first: float = 0.0


class Faults:
    """Does what the plan's schedule says. done, hits: how often each fault was done, and hit work in flight."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = random.Random(world.plan.seed)
        self._due: list[Due] = []
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._looked, self._up = 0.0, False
        self.done: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()

    def begin(self, began: float) -> None:
        """Draw the schedule: each kind spread over the run, none in the same place twice."""
        span = self._world.plan.seconds
        for name, fault in self._world.plan.faults.items():
            step = span / max(fault.times, 1)
            times = [(n + self._random.uniform(0.15, 0.95)) * step for n in range(fault.times)]
            self._due += [Due(began + at, name) for at in times]
        self._due.sort(key=lambda due: due.at)

    @property
    def over(self) -> bool:
        """Whether all of them are done, and what they broke for a time is whole again."""
        return not self._due and not self._later

    def tick(self, now: float) -> None:
        """Do what is due."""
        for at, heal in [each for each in self._later if each[0] <= now]:
            self._later.remove((at, heal))
            heal()
        for due in [each for each in self._due if each.at <= now][:1]:
            if due.name in BREATH and now < (due.first or now) + LONGEST_BREATH and not self._all_up(now):
                due.at = now + BREATH_STEP
                due.first = due.first or now
                continue
            due.until = due.until or now + AIM
            last = now >= due.until
            hit = getattr(self, f"_{due.name}")(last=last)
            if hit is None and not last:
                due.at = now + 0.02
                continue
            self._due.remove(due)
            self.done[due.name] += hit is not None
            self.hits[due.name] += bool(hit)
            if not hit:
                self._try_again(due.name, now)

    def _all_up(self, now: float) -> bool:
        """Whether enough is there to be hit: a system that is always down shows nothing. One worker may be missing."""
        if now - self._looked > BREATH_STEP:
            self._looked = now
            workers, relays = (self._ask(UP) or [(0, 0)])[0]
            plan = self._world.plan
            self._up = int(str(workers)) >= len(plan.workers) - 1 and int(str(relays)) >= min(plan.relays, 1)
        return self._up

    def _try_again(self, name: str, now: float) -> None:
        """A fault that hit nothing shows nothing: another one, if there would be too few without it."""
        fault = self._world.plan.faults[name]
        coming = sum(due.name == name for due in self._due)
        if self.hits[name] + coming < fault.hits and self.done[name] < fault.times * TRIES:
            self._due.append(Due(now + self._random.uniform(1.0, 5.0), name))

    def close(self) -> None:
        """Let go of the harness's own connection."""
        if self._connection is not None:
            self._connection.close()

    # Each fault returns whether it hit work in flight; None: it was not done, as nothing was. `last`: then do it anyway.

    def _kill_worker(self, *, last: bool) -> bool | None:
        return self._kill_busy(self._world.processes.victims("worker"), last=last)

    def _kill_busy(self, children: list[Child], *, last: bool) -> bool | None:
        running = self._running()
        busy = [child for child in children if self._at_work(child, running)]
        if not (busy or last) or not children:
            return None
        self._world.processes.kill(self._random.choice(busy or children))
        return bool(busy)

    def _kill_child(self, *, last: bool) -> bool | None:
        running = self._running()
        found = [
            (child, pid)
            for child in self._world.processes.victims("worker")
            if self._world.plan.workers[child.name] == "prefork"
            for pid in forks(child)
        ]
        busy = [each for each in found if each[1] in running]
        if not found or not (busy or last):
            return None
        self._world.processes.kill_fork(*self._random.choice(busy or found))
        return bool(busy)

    def _kill_relay(self, *, last: bool) -> bool | None:
        return self._kill_if(self._world.processes.victims("relay"), PUBLISHED, last=last)

    def _kill_submitter(self, *, last: bool) -> bool | None:
        return self._kill_writer(self._world.processes.victims("submitter"), "try", last=last)

    def _kill_operator(self, *, last: bool) -> bool | None:
        return self._kill_writer(self._world.processes.victims("operator"), "retry", last=last)

    def _kill_writer(self, children: list[Child], word: str, *, last: bool) -> bool | None:
        busy = [child for child in children if self._last_word(child) == word]
        if not children or not (busy or last):
            return None
        victim = self._random.choice(busy or children)
        self._world.processes.kill(victim)
        return self._last_word(victim) == word

    def _stop_worker(self, *, last: bool) -> bool | None:
        running = self._running()
        children = [child for child in self._world.processes.victims("worker") if child.stopped_until is None]
        busy = [child for child in children if self._at_work(child, running)]
        if not children or not (busy or last):
            return None
        victim = self._random.choice(busy or children)
        self._world.processes.stop(victim, self._world.plan.lease * self._random.uniform(2.0, 3.0))
        return bool(busy)

    def _stop_relay(self, *, last: bool) -> bool | None:
        children = self._world.processes.victims("relay")
        hit = self._aimed(PUBLISHED, last=last)
        if not children or hit is None:
            return None
        self._world.processes.stop(self._random.choice(children), self._world.plan.lease * 1.5)
        return hit

    def _terminate_backends(self, *, last: bool) -> bool | None:
        found = self._ask(BACKENDS)
        busy = any(is_busy for _, is_busy in found)
        if not (busy or last):
            return None
        for pid, _ in found:
            self._ask(f"SELECT pg_terminate_backend({pid})")
        return busy

    def _flush(self, *, last: bool) -> bool | None:
        with self._world.valkey.client() as client:
            waiting = any(client.llen(key) for key in client.keys("*") if client.type(key) == b"list")
            if not (waiting or last):
                return None
            client.flushall()
        return waiting

    def _kill_broker(self, *, last: bool) -> bool | None:
        hit = self._aimed(PUBLISHED, last=last)
        if hit is not None:
            self._world.valkey.kill()
            self._wait(self._random.uniform(0.5, 2.0))
            self._world.valkey.start()
        return hit

    def _stop_postgres(self, *, last: bool) -> bool | None:
        hit = self._aimed(UNSETTLED, last=last)
        if hit is not None:
            self._restart_postgres(self._random.uniform(0, 1.0))
        return hit

    def _postgres_away(self, *, last: bool) -> bool | None:  # noqa: ARG002 - they are all called alike
        """For longer than a lease: all heartbeats are late at once, and nobody is dead."""
        hit = bool(self._number(UNSETTLED))
        self._restart_postgres(self._world.plan.lease * 1.5)
        return hit

    def _black_hole(self, *, last: bool) -> bool | None:
        hit = self._aimed(UNSETTLED, last=last)
        if hit is None:
            return None
        proxies = self._random.sample(
            list(self._world.proxies), self._random.randint(1, len(self._world.proxies))
        )
        before = sum(proxy.swallowed for proxy in proxies)
        for proxy in proxies:
            proxy.black_hole()

        def heal() -> None:
            # With a reset: the connections lost bytes, and a caller's own engine may wait for an answer as long as it likes.
            for proxy in proxies:
                proxy.cut()
                proxy.heal()
            if hit and sum(proxy.swallowed for proxy in proxies) == before:
                self.hits["black_hole"] -= 1  # nothing fell into it
                self._try_again("black_hole", time.time())

        self._later.append((time.time() + 5.0, heal))
        return hit

    def _cut_after_commit(self, *, last: bool) -> bool | None:  # noqa: ARG002 - they are all called alike
        proxy = self._world.proxies[0]
        before = proxy.withheld
        proxy.cut_after_commit(2)
        self._later.append((time.time() + 3.0, lambda: self._count_cuts(proxy, before)))
        return False

    def _count_cuts(self, proxy: Proxy, before: int) -> None:
        self.hits["cut_after_commit"] += proxy.withheld > before
        proxy.heal()

    def _reset(self, *, last: bool) -> bool | None:  # noqa: ARG002 - they are all called alike
        hit = any(proxy.open for proxy in self._world.proxies) and bool(self._number(UNSETTLED))
        for proxy in self._world.proxies:
            proxy.cut()
        return hit

    def _restart_postgres(self, down: float) -> None:
        self._world.postgres.immediate()
        stopped = time.time()
        self._wait(down)
        self._world.postgres.start()
        # Not the postmaster's start: from there to the first answer it recovers, which may last longer than a lease.
        rows = self._ask("SELECT extract(epoch FROM clock_timestamp())::float8")
        self._world.restarts += [(stopped, float(str(row[0]))) for row in rows]

    def _wait(self, seconds: float) -> None:
        """With the processes tended: what dies for want of a server comes back."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._world.processes.tend()
            time.sleep(0.05)

    def _kill_if(self, children: list[Child], query: str, *, last: bool) -> bool | None:
        hit = self._aimed(query, last=last)
        if not children or hit is None:
            return None
        self._world.processes.kill(self._random.choice(children))
        return hit

    def _aimed(self, query: str, *, last: bool) -> bool | None:
        """Whether something is in flight; None: nothing is, and there is still time for it to come."""
        return bool(self._number(query)) or (False if last else None)

    def _at_work(self, child: Child, running: dict[int, int]) -> bool:
        return any(pid in running for pid in (child.pid, *forks(child)))

    def _running(self) -> dict[int, int]:
        return {int(str(pid)): int(str(count)) for pid, count in self._ask(RUNNING)}

    def _number(self, query: str) -> int:
        rows = self._ask(query)
        return int(str(rows[0][0])) if rows else 0

    def _last_word(self, child: Child) -> str:
        """What the process said last."""
        file = self._world.folder / f"{JOURNALS}{child.name.removeprefix('submitter-')}"
        with contextlib.suppress(OSError), file.open("rb") as opened:
            opened.seek(0, 2)
            opened.seek(max(opened.tell() - 400, 0))
            return opened.read().decode(errors="replace").rstrip("\n").rpartition("\n")[2].partition("\t")[0]
        return ""

    def _ask(self, query: str) -> list[tuple[object, ...]]:
        """A question of the harness's own; nothing, if Postgres does not answer."""
        for _ in range(2):
            try:
                if self._connection is None:
                    self._connection = self._world.postgres.connect(self._world.database)
                return self._connection.execute(query.encode()).fetchall()
            except psycopg.Error:
                if self._connection is not None:
                    self._connection.close()
                self._connection = None
        return []
