"""The port behind which every rival stands, so that one driver measures them all.

    python -m benchmarks.peers.NAME serve     a client: reads one JSON command a line, answers each with one line
    python -m benchmarks.peers.NAME work      a worker, where the rival has no command of its own for it

The standard library only: a rival runs in the environment that its own library is installed in. Where the servers are it
finds in DATABASE_URL (as libpq spells it) and BROKER_URL, its settings in BENCH_VARIANT.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

DATABASE_URL = os.environ.get("DATABASE_URL", "")
BROKER_URL = os.environ.get("BROKER_URL", "")
VARIANT = os.environ.get("BENCH_VARIANT", "")


class Peer(Protocol):
    """A rival. A cycle is one state written before the effect, the effect in a worker, one state written after it."""

    def prepare(self, machines: int) -> None:
        """Tables, and `machines` rows of state."""
        ...

    def submit(self, count: int, clients: int) -> None:
        """Begin `count` cycles one by one, each committed by itself, `clients` at once."""
        ...

    def submit_many(self, count: int, batch: int) -> None:
        """Begin `count` cycles, `batch` in one transaction."""
        ...

    def done(self) -> int:
        """How many cycles have ended since `prepare`."""
        ...

    def one(self) -> tuple[float, float]:
        """Begin one cycle and wait for its end; when it was committed and when its effect began (seconds since 1970)."""
        ...


def in_threads(work: Callable[[int], object], count: int, clients: int) -> None:
    """Let `clients` threads share `count` among them."""
    with ThreadPoolExecutor(clients) as pool:
        for each in [pool.submit(work, len(range(n, count, clients))) for n in range(clients)]:
            each.result()


def main(peer: Peer) -> None:
    """What a rival's module does when it is run."""
    if sys.argv[1:] == ["serve"]:
        serve(peer)
    else:
        getattr(peer, sys.argv[1])()


def serve(peer: Peer) -> None:
    """Answer commands until the driver lets go."""
    for line in sys.stdin:
        command: dict[str, int] = json.loads(line)
        verb = str(command.pop("do"))
        try:
            answer: dict[str, object] = {"value": getattr(peer, verb)(**command)}
        except Exception:  # noqa: BLE001 - it is the driver's to judge
            answer = {"error": traceback.format_exc()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
