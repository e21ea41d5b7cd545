"""Two deaths in the life of one action: for each ordered pair of crash points.

A process dies at the first while it has the action in hand, and whoever takes up what it has left dies at the second, in the same round or
a later one.

A stack is a caller, a relay and a worker with a database, a broker's number and a file of orders of their own. It has one action at a time,
so that whatever point is reached is reached on its account. The action fails and comes round again until both deaths were died; it is
under a limit and its machine has a projection, so that each round passes every point. Only a lease that is taken away needs a death of its
own: then the effect kills its worker.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING, Self

from sqlalchemy import create_engine

from chaos import gauges
from chaos.caller import ASKS
from chaos.caller import NAME as CALLER
from chaos.effects import DO, FAIL, KILL, MACHINES, mood_of
from chaos.evidence import Evidence, deaths
from chaos.machines import ALL, LIMIT
from chaos.plan import SLOTS, Plan
from chaos.processes import ROOT, Child, Processes
from chaos.truth import FOLDER, JOURNALS, append, lines
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.crash import FILE, LIFE, VARIABLE, Point
from fsm_core.postgres.migrate import upgrade

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from chaos.servers import Postgres, Valkey

STACKS = 6
LEASE = 2.0
TICK = 0.02
LOOK_EVERY = 0.1
PATIENCE = 120.0
"""Seconds for each thing that a life waits for."""

RELAY, WORKER = "relay-0", "threads"
OWNERS = {"advance": CALLER, "relay": RELAY, "reconcile": RELAY, "worker": WORKER}
"""Who passes a point, by the first part of its name."""

PAIRS = tuple(product(LIFE, LIFE))
HELD = "SELECT pid FROM fsm.workers WHERE dead_at IS NULL"
OPEN = "SELECT count(*) FROM fsm.actions WHERE status NOT IN ('completed', 'failed', 'cancelled')"


def owner(point: Point) -> str:
    """The process of a stack that passes a point."""
    return OWNERS[point.partition(".")[0]]


@dataclass
class Lived:
    """A life with two deaths: its machine's key, and how long it took; why it did not come to its end."""

    key: str
    pair: tuple[Point, Point]
    seconds: float = 0.0
    failure: str = ""


@dataclass
class Stack:
    """Processes that are killed for one action at a time. lived: what they have been through."""

    number: int
    folder: Path
    postgres: Postgres
    valkey: Valkey
    lived: list[Lived] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self._database = f"pairs_{self.number}_{time.time_ns() % 1_000_000_000}"
        self._orders = self.folder / "orders"
        self._processes = Processes(self.folder)
        self._children: dict[str, Child] = {}

    def __enter__(self) -> Self:
        with self.postgres.connect() as connection:
            connection.execute(f"CREATE DATABASE {self._database}".encode())
        url = self.postgres.url(self._database)
        upgrade(url)
        engine = create_engine(url)
        PostgresStore(engine, machines=ALL).limit(LIMIT, max_running=1, rate=None, per=timedelta(seconds=1))
        engine.dispose()
        self._connection = self.postgres.connect(self._database)
        self._connection.execute("CREATE TABLE told (key text, seq int)")
        self._client = self.valkey.client(self.number)
        self._feel(FAIL)
        env = {
            "DATABASE_URL": url, "BROKER_URL": self.valkey.url_of(self.number), "FSM_MACHINES": MACHINES, "FSM_LEASE": str(LEASE),
            FOLDER: str(self.folder), VARIABLE: f"{FILE}{self._orders}", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        options = ("-P", "threads", "-c", str(SLOTS["threads"]), "-Q", "default", "-n", f"{self.number}@%h", "-l", "WARNING")  # fmt: skip
        for name, argv in ((CALLER, (CALLER,)), (RELAY, ("relay",)), (WORKER, ("worker", *options))):
            self._children[name] = self._processes.add(Child(name, name, argv, env))
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.end(self._children.values())
        self._connection.close()
        self._client.close()

    def tend(self) -> None:
        """Start again whoever has died."""
        self._processes.tend()

    def live(self, todo: deque[tuple[Point, Point]]) -> Iterator[None]:
        """Take from `todo` and live through it, one after another, until there is none; yields while it waits."""
        while todo:
            life = Lived(f"{len(self.lived)}", todo.popleft())
            self.lived.append(life)
            began = time.monotonic()
            try:
                yield from self._live(life)
            except TimeoutError as error:
                life.failure = str(error)
                return
            finally:
                life.seconds = time.monotonic() - began

    def ask(self, query: str) -> list[tuple[object, ...]]:
        """A question to its database."""
        return self._connection.execute(query.encode()).fetchall()

    def evidence(self) -> Evidence:
        """All is done: what is to be judged. Ends the processes."""
        plan = Plan(
            f"pairs-{self.number}", 0, 0, 0, lease=LEASE, submitters=0, workers={WORKER: "threads"}, relays=1
        )
        evidence = Evidence(
            plan, self.folder, self.postgres.url(self._database), healed=time.time(), healed_after=0.0
        )
        self._processes.end([self._children[CALLER]])
        gauges.measure(evidence, self.postgres, self._database)
        self._processes.end(self._children.values())
        evidence.left = gauges.left(self.postgres, self._database)
        evidence.points = [point for _, point in deaths(self.folder)]
        return evidence

    def _live(self, life: Lived) -> Iterator[None]:
        first, second = life.pair
        yield from self._until("nothing is left of the life before", self._is_quiet)
        self._feel(FAIL)
        yield from self._die(first, lambda: self._ask(life.key, "twice"))
        # The caller has brought its event by then: only another one for the same machine makes it pass its points again.
        yield from self._die(
            second, lambda: self._ask(life.key, "nudge") if owner(second) == CALLER else None
        )
        self._feel(DO)
        yield from self._until("the action ends", self._is_quiet)

    def _die(self, point: Point, cause: Callable[[], None]) -> Iterator[None]:
        """Arm the point, give cause to pass it, and wait until somebody has died there."""
        before = deaths(self.folder)
        if point is Point.RECONCILE_AFTER_DEAD:
            # A relay that died before has a lease, too: only when that is gone is the next one that is taken away the action's.
            cause()
            yield from self._until(
                "all leases but those of the living are over", lambda: self._held() == self._alive()
            )
        self._arm(point)
        if point in (Point.RECONCILE_AFTER_DEAD, Point.RECONCILE_AFTER_REQUEUE):
            self._feel(KILL)
        if point is not Point.RECONCILE_AFTER_DEAD:
            cause()
        child = self._children[owner(point)]
        ended = len(child.statuses)
        yield from self._until(
            f"somebody dies at {point}",
            lambda: (
                len(child.statuses) > ended and [p for _, p in deaths(self.folder)[len(before) :]] == [point]
            ),
        )
        self._orders.unlink()
        self._feel(FAIL)

    def _until(self, what: str, holds: Callable[[], bool]) -> Iterator[None]:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {PATIENCE:g} s: {what}")
            until = time.monotonic() + LOOK_EVERY
            while time.monotonic() < until:
                yield

    def _is_quiet(self) -> bool:
        """Whether everybody is there and nobody has anything to do."""
        ((open_,),) = self.ask(OPEN)
        asked = {id_ for id_, *_ in lines(self.folder / ASKS)}
        known = {
            rest[0] for kind, *rest in lines(self.folder / f"{JOURNALS}{CALLER}") if kind in ("ok", "bug")
        }
        return (
            not open_
            and asked == known
            and not self._client.llen("default")
            and self._alive() <= self._held()
        )

    def _held(self) -> set[int]:
        return {int(str(pid)) for (pid,) in self.ask(HELD)}

    def _alive(self) -> set[int]:
        return {self._children[name].pid or 0 for name in (RELAY, WORKER)}

    def _ask(self, key: str, kind: str) -> None:
        append(self.folder / ASKS, f"{key}.{kind}", key, kind)

    def _arm(self, point: Point) -> None:
        self._put(self._orders, point)

    def _feel(self, mood: str) -> None:
        self._put(mood_of(self.folder), mood)

    def _put(self, file: Path, text: str) -> None:
        """At once: nobody reads half of it."""
        new = file.with_suffix(".new")
        new.write_text(text)
        new.rename(file)
