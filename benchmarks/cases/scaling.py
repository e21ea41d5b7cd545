"""P9, scaling: effects that take 5 ms each, one worker process against two."""

from collections.abc import Iterator
from statistics import median

from benchmarks.frame import Options, Row, Target
from benchmarks.rivals import RELAY, ours
from benchmarks.running import Running
from benchmarks.world import world

CYCLES, NAP = 4_000, 0.005
SLOTS = "2"
"""Few, so that effects are what is waited for, and not the machine's cores."""

WORKER = (
    "workers.cli.main",
    "worker",
    "--",
    "--pool",
    "threads",
    "-c",
    SLOTS,
    "--loglevel",
    "WARNING",
    "--hostname",
)
RIVAL = ours(
    "fsm-core, 5 ms effects", {"relay": RELAY, "worker-1": (*WORKER, "1@%h"), "worker-2": (*WORKER, "2@%h")}
)


def run(options: Options) -> Iterator[Row]:
    """The rows."""
    one: list[float] = []
    two: list[float] = []
    with world(options) as servers:
        for _ in range(options.size(3)):
            with servers.ready(RIVAL, options) as running:
                running.start("relay", "worker-1")
                one.append(rate(running, options))
                running.start("worker-2")
                two.append(rate(running, options))
    yield Row(
        "2 worker processes", median(two), "/s", max(two), "1 worker process", median(one),
        Target(least=1.9, ratio=True), note=f"{SLOTS} slots each, which allow {int(SLOTS) / NAP:,.0f}/s at most",
    )  # fmt: skip


def rate(running: Running, options: Options) -> float:
    """Cycles per second of a backlog, after a warm-up."""
    batch = options.size(100, 10)
    running.turn("submit_many", options.size(600, 10), batch=batch, nap=NAP)
    return running.turn("submit_many", options.size(CYCLES, 10), batch=batch, nap=NAP).rate
