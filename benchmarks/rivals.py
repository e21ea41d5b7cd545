"""Who is measured, each with the best settings that were found for it (docs/performance.md names them)."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = sys.executable
PEERS = ROOT / ".venv" / "peers" / "bin" / "python"
"""The environment of the peers: benchmarks/requirements.txt, installed by `python -m benchmarks.peers`."""

SLOTS = "8"
RELAY = ("workers.cli.main", "relay")
WORKER = ("workers.cli.main", "worker", "--", "--pool", "threads", "-c", SLOTS, "--loglevel", "WARNING")


@dataclass(frozen=True, eq=False)
class Rival:
    """Who is measured.

    name: in the tables. module: of `benchmarks.peers`. python: whose environment. variant: of its settings, told it as
    BENCH_VARIANT. processes: name -> what follows `python -m`. env: variables on top. pace: cycles/s to be expected, so that
    everybody's turn lasts about as long.
    """

    name: str
    module: str
    processes: Mapping[str, Sequence[str]]
    python: str = PROJECT
    variant: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    pace: int = 1_000

    @property
    def installed(self) -> bool:
        """Whether its environment has its library."""
        return imports(self.python, self.module)


@cache
def imports(python: str, module: str) -> bool:
    """Whether the peer's module can be imported there."""
    if not Path(python).exists():
        return False
    look = [python, "-c", f"import benchmarks.peers.{module}"]
    return subprocess.run(look, cwd=ROOT, env=os.environ, capture_output=True, check=False).returncode == 0


def by_celery(name: str, module: str, *options: str, variant: str = "") -> Rival:
    """A peer whose workers Celery's own command starts."""
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")
    worker = ("celery", "-A", f"benchmarks.peers.{module}:app", "worker", *quiet, *options)
    return Rival(name, module, {"worker": worker}, variant=variant)


def by_itself(name: str, module: str, pace: int, *, workers: int = 1, **options: float | str) -> Rival:
    """A peer whose worker is its module's `work`, in its own environment."""
    processes = {f"worker-{n}": (f"benchmarks.peers.{module}", "work") for n in range(1, workers + 1)}
    return Rival(name, module, processes, str(PEERS), json.dumps(options) if options else "", pace=pace)


def ours(name: str, processes: Mapping[str, Sequence[str]]) -> Rival:
    """fsm-core, with some processes."""
    return Rival(name, "ours", processes, env={"FSM_MACHINES": "benchmarks.machine:effects"}, pace=2_000)


OURS = ours("fsm-core", {"relay": RELAY, "worker": WORKER})

CELERY = by_celery("Celery, no-op task", "celery_noop", "-P", "threads", "-c", SLOTS)
CELERY_TUNED = by_celery(
    "Celery, no-op task, tuned", "celery_noop", "-P", "prefork", "-c", "2", variant="tuned"
)
CELERY_STATE = by_celery(
    "Celery + state, no outbox", "celery_state", "-P", "threads", "-c", SLOTS, variant="tuned"
)
PGQUEUER = by_itself("pgqueuer + state", "pgqueuer_", 800, batch=300, connections=20)
PGQUEUER_STATELESS = by_itself(
    "pgqueuer, no state", "pgqueuer_", 1_500, batch=300, connections=20, state=False
)
PROCRASTINATE = by_itself("procrastinate + state", "procrastinate_", 400, workers=2, concurrency=30)
DBOS = by_itself("DBOS, default", "dbos_", 180)
DBOS_TUNED = by_itself("DBOS, tuned", "dbos_", 400, workers=2, poll=0.05)
ABSURD = by_itself("absurd", "absurd_", 500, workers=2, concurrency=1, batch_size=100, poll_interval=0.05)

DURABLE = (PGQUEUER, PROCRASTINATE, ABSURD, DBOS_TUNED, DBOS)
"""Those that keep a state before and after, and lose no work between them."""
