"""One run: servers, processes, faults; then everything is healed, and what is left is looked at."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy import create_engine

from chaos import gauges
from chaos.blow import blow
from chaos.effects import MACHINES
from chaos.entry import MUTANT
from chaos.evidence import Evidence, deaths
from chaos.faults import Faults, World
from chaos.machines import ALL, DESKS, LIMIT, MOST_AT_ONCE, desk
from chaos.mischief import Mischief
from chaos.plan import MIGRATION, SLOTS
from chaos.processes import ROOT, Child, Processes
from chaos.proxy import Proxy
from chaos.submitter import BEGAN, DONE, HEALED, PLAN
from chaos.truth import FOLDER
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.crash import VARIABLE
from fsm_core.postgres.migrate import upgrade

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chaos.plan import Plan
    from chaos.servers import Postgres, Valkey

TICK = 0.02
START_TIMEOUT = 120.0
LOOK_EVERY = 0.25
WEIGH_EVERY = 5.0
OPEN = "SELECT count(*) FROM fsm.actions WHERE status NOT IN ('completed', 'failed', 'cancelled')"
THERE = "SELECT count(*) FROM fsm.workers WHERE kind IN ('node', 'relay') AND dead_at IS NULL"


class Run:
    """A run of `plan` on servers that it shares with nobody, in a database and a folder of its own.

    mutant: what is broken on purpose. tell: is told how far it is, from 0 to 1.
    """

    def __init__(
        self, plan: Plan, folder: Path, postgres: Postgres, valkey: Valkey, *, mutant: str = "",
        tell: Callable[[float, str], object] = lambda *_: None,
    ) -> None:  # fmt: skip
        self._plan, self._folder, self._postgres, self._valkey = plan, folder, postgres, valkey
        self._mutant, self._tell = mutant, tell
        self._database = f"chaos_{plan.name}_{time.time_ns() % 1_000_000_000}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan").write_bytes(pickle.dumps(plan))

    def go(self) -> Evidence:
        """Run to the end. Returns what the oracle judges."""
        url = self._prepare()
        evidence = Evidence(self._plan, self._folder, url)
        with contextlib.ExitStack() as stack:
            proxies = [stack.enter_context(Proxy(each)) for each in (url, self._valkey.url)]
            processes = stack.enter_context(Processes(self._folder))
            world = World(
                self._plan, self._folder, self._database, self._postgres, self._valkey, processes, proxies
            )
            faults = Faults(world)
            stack.callback(faults.close)
            evidence.dead_before = gauges.dead_rows(self._postgres, self._database)
            began = self._start(world)
            self._rage(world, faults, evidence, began)
            self._heal(world, evidence, url)
            gauges.measure(evidence, self._postgres, self._database)
            processes.end(processes.every("worker", "relay", "operator", "submitter"))
        evidence.seconds = time.time() - began
        evidence.faults, evidence.hits, evidence.restarts = faults.done, faults.hits, world.restarts
        evidence.left = gauges.left(self._postgres, self._database)
        evidence.points = [point for _, point in deaths(self._folder)]
        return evidence

    def _prepare(self) -> str:
        with self._postgres.connect() as connection:
            connection.execute(f"CREATE DATABASE {self._database}".encode())
        url = self._postgres.url(self._database)
        for point in MIGRATION if self._plan.crashes else ():
            self._die_migrating(url, point)
        upgrade(url)
        with self._valkey.client() as client:
            client.flushall()
        engine = create_engine(url)
        store = PostgresStore(engine, machines=ALL)
        store.limit(LIMIT, max_running=MOST_AT_ONCE, rate=None, per=timedelta(seconds=1))
        for number in range(DESKS):
            store.start(desk, f"desk-{number}")
        engine.dispose()
        return url

    def _die_migrating(self, url: str, point: str) -> None:
        with (self._folder / "migrate.log").open("ab") as log:
            subprocess.run(
                [sys.executable, "-m", "chaos.entry", "migrate"], cwd=ROOT, stdout=log, stderr=log, check=False,
                env={**os.environ, "DATABASE_URL": url, VARIABLE: point, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip

    def _start(self, world: World) -> float:
        """Workers and relays; and the load when they are there. Returns when that begins."""
        direct = {"DATABASE_URL": self._postgres.url(self._database), "BROKER_URL": self._valkey.url}
        proxied = {"DATABASE_URL": world.proxies[0].url, "BROKER_URL": world.proxies[1].url}
        common = {
            "FSM_MACHINES": MACHINES, "FSM_LEASE": str(self._plan.lease), FOLDER: str(self._folder), PLAN: str(self._folder / "plan"),
            MUTANT: self._mutant, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1",
        }  # fmt: skip

        def add(name: str, kind: str, *argv: str, through: bool = False, ends: bool = False) -> None:
            env = {**common, **(proxied if through else direct)}
            crashes, spared = list(self._plan.crashes.get(name, ())), name in self._plan.spared
            world.processes.add(Child(name, kind, argv, env, ends=ends, crashes=crashes, spared=spared))

        for name, pool in self._plan.workers.items():
            queues = "default,lanes,others" + ",killers" * (pool == "prefork")
            options = ("-P", pool, "-c", str(SLOTS[pool]), "-Q", queues, "-n", f"{name}@%h", "-l", "WARNING")
            add(name, "worker", "worker", *options, through=name == "proxied")
        for number in range(self._plan.relays):
            add(f"relay-{number}", "relay", "relay", through=bool(number))
        self._until_there(world, len(self._plan.workers) + self._plan.relays)
        began = time.time() + 1.0
        common[BEGAN] = str(began)
        for number in range(self._plan.submitters):
            add(f"submitter-{number}", "submitter", "submitter", str(number), through=number == 0, ends=True)
        if self._plan.operator:
            add("operator", "operator", "operator", ends=True)
        return began

    def _until_there(self, world: World, wanted: int) -> None:
        deadline = time.time() + START_TIMEOUT
        while self._number(THERE) < wanted:
            world.processes.tend()
            if time.time() > deadline:
                raise TimeoutError(f"not all processes have come up; their logs are in {self._folder}")
            time.sleep(0.1)

    def _rage(self, world: World, faults: Faults, evidence: Evidence, began: float) -> None:
        """Until all events are brought, all faults are done and all crash points died at; at most for three times as long as planned."""
        mischief = Mischief(self._valkey, self._plan.seed, self._plan.duplicates)
        faults.begin(began)
        looked = weighed = 0.0
        spared = [child for child in world.processes.every("worker", "relay") if child.spared]
        limit = began + self._plan.seconds * 3 + 60
        while time.time() < limit:
            now = time.time()
            world.processes.tend()
            faults.tick(now)
            if now - weighed > WEIGH_EVERY:
                weighed = now
                gauges.weigh(spared, evidence)
            if now - looked > LOOK_EVERY:
                looked = now
                if self._plan.duplicates:
                    mischief.tick()
                self._tell(
                    min((now - began) / self._plan.seconds, 1.0), f"{sum(faults.done.values())} faults"
                )
                if faults.over and self._all_brought() and self._spent(world):
                    break
            time.sleep(TICK)
        mischief.close()
        evidence.mischief = mischief.done

    def _heal(self, world: World, evidence: Evidence, url: str) -> None:
        """No more faults. What is still to be done must be done within the plan's patience."""
        for proxy in world.proxies:
            proxy.heal()
        for child in world.processes.every("worker", "relay", "submitter", "operator"):
            world.processes.resume(child)
        world.processes.disarm()
        if self._plan.blow:
            blow(world, url)
        (self._folder / HEALED).touch()
        evidence.healed = healed = time.time()
        while time.time() - healed < self._plan.patience:
            world.processes.tend()
            waiting = [
                child for child in world.processes.every("submitter", "operator") if not child.finished
            ]
            if not waiting and self._number(OPEN) == 0:
                evidence.healed_after = time.time() - healed
                break
            time.sleep(LOOK_EVERY)
        evidence.unfinished = [
            child.name for child in world.processes.every("submitter") if not child.finished
        ]

    def _spent(self, world: World) -> bool:
        """Whether it is over: nobody is armed any more, or nothing is left to do that would get anybody to where it is to die."""
        armed = any(
            child.armed or child.crashes for child in world.processes.every("worker", "relay", "submitter")
        )
        # Before the last blow the backlog is worked off: it is recovery that is measured then, not throughput.
        return (not armed and not self._plan.blow) or self._number(OPEN) == 0

    def _all_brought(self) -> bool:
        return all((self._folder / f"{DONE}{number}").exists() for number in range(self._plan.submitters))

    def _number(self, query: str) -> int:
        """The answer to a question; -1, if there is none."""
        try:
            with self._postgres.connect(self._database) as connection:
                row = connection.execute(query.encode()).fetchone()
        except psycopg.Error:
            return -1
        return int(str(row[0])) if row else -1
