"""P4, latency: from the commit of `advance` to the start of its effect while nothing else is to be done, and what idling costs."""

import time
from collections.abc import Iterator
from random import Random
from statistics import median, quantiles

from benchmarks.frame import Options, Row, Target
from benchmarks.rivals import CELERY, OURS, PGQUEUER, PROCRASTINATE, Rival
from benchmarks.rounds import MISSING, present_of
from benchmarks.running import Running
from benchmarks.world import World, world

PEERS = (CELERY, PGQUEUER, PROCRASTINATE)


def run(options: Options) -> Iterator[Row]:
    """The rows."""
    with world(options) as servers:
        found = {rival: waited(servers, rival, options) for rival in present_of((OURS, *PEERS), options)}
    took, idle = found[OURS]
    yield Row("commit to start, p50", median(took), "ms", min(took), target=Target(most=4))
    yield Row("commit to start, p99", p99(took), "ms", target=Target(most=10), note=f"of {len(took)}")
    yield Row("CPU of relay and worker, idle", idle, "% of a core", target=Target(most=2))
    for rival in PEERS:
        if rival in found:
            theirs, spent = found[rival]
            note = f"its p99 {p99(theirs):.1f} ms, idle {spent:.1f} % of a core"
            yield Row("commit to start, p50", median(took), "ms", None, rival.name, median(theirs), note=note)
        else:
            yield Row("commit to start, p50", median(took), "ms", None, rival.name, note=MISSING)


def waited(servers: World, rival: Rival, options: Options) -> tuple[list[float], float]:
    """Milliseconds, one by one, and the CPU of its processes while nothing happens, in parts of a hundred of a core."""
    with servers.up(rival, options) as running:
        return samples(running, options.size(200, 3)), idle(running, options.size(10))


def samples(running: Running, number: int) -> list[float]:
    """Cycles one after the other, with pauses of no fixed length: all have gone to sleep, and nobody's rhythm is met."""
    random = Random(7)
    found: list[float] = []
    for _ in range(number):
        time.sleep(random.uniform(0.05, 0.15))
        committed, began = running.one()
        found.append((began - committed) * 1e3)
    return found


def idle(running: Running, seconds: int) -> float:
    """Of a core, in parts of a hundred."""
    time.sleep(min(seconds, 2) if seconds > 1 else 0)
    before = running.cpu()
    time.sleep(seconds)
    after = running.cpu()
    return sum(after[name] - before[name] for name in running.processes) / seconds * 100


def p99(values: list[float]) -> float:
    """The value that one of a hundred is beyond."""
    return quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]
