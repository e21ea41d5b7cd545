"""P6, growth: P1 and P4 in a database of a million machines, against an empty one of the same server in the same run."""

from collections.abc import Iterator
from statistics import median

from benchmarks.cases.concurrent import CLIENTS, SECONDS
from benchmarks.cases.latency import samples
from benchmarks.fill import grown, size
from benchmarks.frame import Options, Row, Target
from benchmarks.rivals import OURS
from benchmarks.running import Running, Turn
from benchmarks.world import plain, world

LEAST, MOST = 0.85, 1 / 0.85


def run(options: Options) -> Iterator[Row]:
    """The rows."""
    turns: dict[str, list[Turn]] = {"grown": [], "empty": []}
    waited: dict[str, list[float]] = {"grown": [], "empty": []}
    crowd = size(options)
    with world(options) as servers, servers.database() as full:
        grown(plain(full), crowd)
        for number in range(options.size(3)):
            for name in ("grown", "empty") if number % 2 == 0 else ("empty", "grown"):
                with servers.up(OURS, options, full if name == "grown" else None) as running:
                    waited[name] += samples(running, options.size(100, 2))
                    turns[name].append(one_by_one(running, options))
    rates = {name: median(turn.rate for turn in each) for name, each in turns.items()}
    costs = {name: median(sum(turn.cpu.values()) for turn in each) for name, each in turns.items()}
    p50 = {name: median(each) for name, each in waited.items()}
    note = str(crowd)
    yield Row(
        "cycles, one by one", rates["grown"], "/s", None, "empty database", rates["empty"], Target(least=LEAST, ratio=True), note
    )  # fmt: skip
    yield Row(
        "commit to start, p50",
        p50["grown"],
        "ms",
        None,
        "empty database",
        p50["empty"],
        Target(most=MOST, ratio=True),
    )
    yield Row(
        "CPU of all processes for a cycle", costs["grown"], "us", None, "empty database", costs["empty"]
    )


def one_by_one(running: Running, options: Options) -> Turn:
    """P1's load."""
    return running.turn("submit", options.size(running.rival.pace * SECONDS, 8), clients=CLIENTS)
