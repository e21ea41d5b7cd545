"""A tenant that floods tenfold, under a concurrency limit on its key: the others' latency, against the same without the flood.

From commit to the end of the effect (50 ms), by the database's clock. Ten tenants call ten times a second each, which takes five of
eight slots; then one of them calls a hundred times a second, which alone would take another five. Its limit gives it two. The turns
are taken by the same relay and worker, one after another; the figures are medians of the turns' p99. The last row is the same flood without a limit: what the limit is there for.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, sleep

from sqlalchemy import Engine, create_engine, text

from benchmarks.frame import Options, Row, Target
from benchmarks.world import World, world
from fsm_core import Effects, Machine, Route, To
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.migrate import upgrade
from workers.dev.supervise import Command

ROOT = Path(__file__).parents[2]
QUEUE = "tenants"
PATIENCE = 60.0
TARGET = Target(most=2, ratio=True)
EFFECT = 0.05
ROOM, SLOTS = 2, 8
TENANTS, PERIOD = 10, 0.1
TENFOLD = 10


@dataclass(frozen=True)
class Open:
    pass


@dataclass(frozen=True)
class Ask:
    tenant: str
    times: int
    limit: str | None


@dataclass(frozen=True)
class Call:
    tenant: str
    limit: str | None


desk = Machine("tenants", states=Open, events=Ask, actions=Call, initial=Open(), queue=QUEUE)


@desk.on
def ask(state: Open, event: Ask) -> To[Open, Call]:
    return state, [Call(event.tenant, event.limit) for _ in range(event.times)]


@desk.route
def by_tenant(action: Call) -> Route:
    return Route(limit=action.limit, limit_key=action.tenant if action.limit else None)


effects = Effects(desk)


@effects.act
def call(_action: Call) -> None:
    sleep(EFFECT)


def run(options: Options) -> Iterator[Row]:
    """The rows."""
    ticks, rounds = options.size(500, 30), options.size(5)
    turns: dict[str, list[list[float]]] = {"quiet": [], "flood": [], "unlimited": []}
    with world(options) as servers, running(servers) as (store, engine):
        store.limit("tenant", max_running=ROOM)
        for name in list(turns) * rounds:
            turns[name].append(turn(store, engine, name, ticks))
    p99 = {name: median(quantiles(each, n=100)[98] for each in found) * 1e3 for name, found in turns.items()}
    calls = f"{sum(map(len, turns['quiet']))} calls"
    flood, quiet = p99["flood"], p99["quiet"]
    yield Row("p99 of the others, one floods", flood, "ms", None, "no flood", quiet, TARGET, calls)
    yield Row("the same without a limit", p99["unlimited"], "ms", None, "no flood", quiet)


def turn(store: PostgresStore, engine: Engine, name: str, ticks: int) -> list[float]:
    """One turn: how long each call of the others took. What the flood has left is cancelled."""
    limit = None if name == "unlimited" else "tenant"
    floods = name != "quiet"
    begin = now(engine)
    start = monotonic()
    for tick in range(ticks):
        sleep(max(tick * PERIOD / TENANTS - (monotonic() - start), 0))
        tenant = tick % TENANTS
        flood = floods and tenant == 0
        what = Ask("flood", TENFOLD, limit) if flood else Ask(f"tenant {tenant}", 1, limit)
        store.advance(desk, f"tenant {tenant}", what)
    took = waited(engine, begin)
    with engine.begin() as connection:
        rest = "UPDATE fsm.actions SET status = 'cancelled', finished_at = clock_timestamp() WHERE status IN ('blocked', 'pending', 'published')"
        connection.execute(text(rest))
    return took


OTHERS = """
SELECT extract(epoch FROM finished_at - created_at)::float8 FROM fsm.actions
 WHERE payload ->> 'tenant' NOT IN ('flood', 'tenant 0') AND created_at >= :begin"""


def waited(engine: Engine, begin: object) -> list[float]:
    """How long each of them took, when all have ended. Raises TimeoutError."""
    start = monotonic()
    while monotonic() - start < PATIENCE:
        with engine.connect() as connection:
            found = list(connection.execute(text(OTHERS), {"begin": begin}).scalars())
        if None not in found:
            return found
        sleep(0.1)
    raise TimeoutError(f"{found.count(None)} of {len(found)} calls have not ended")


def now(engine: Engine) -> object:
    with engine.connect() as connection:
        return connection.execute(text("SELECT clock_timestamp()")).scalar_one()


@contextmanager
def running(servers: World) -> Iterator[tuple[PostgresStore, Engine]]:
    """A relay and a worker, and the machines."""
    with servers.database() as url:
        upgrade(url)
        engine = create_engine(url)
        env = {
            "DATABASE_URL": url,
            "BROKER_URL": servers.broker_url,
            "FSM_MACHINES": f"{__name__}:effects",
            "PYTHONPATH": str(ROOT),
        }
        fsm = [sys.executable, "-m", "workers.cli.main"]
        for name, argv in (
            ("relay", ["relay"]),
            ("worker", ["worker", "--", "--pool", "threads", "-c", str(SLOTS), "-Q", QUEUE]),
        ):
            command = Command(
                [*fsm, *argv], env=env, cwd=ROOT, log=servers.folder / f"{name}.log", restart=False
            )
            servers.supervisor.start(f"tenants {name}", command)
        store = PostgresStore(engine)
        for tenant in range(TENANTS):
            store.start(desk, f"tenant {tenant}")
        try:
            begin = now(engine)
            store.advance(desk, "tenant 1", Ask("tenant 1", 1, None))
            waited(engine, begin)
            yield store, engine
        finally:
            for name in ("relay", "worker"):
                servers.supervisor.stop(f"tenants {name}")
            engine.dispose()
