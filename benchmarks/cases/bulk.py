"""P2, bulk: `advance_many` by 100 while relay and worker run, beside the best durable peers with the same batches."""

from collections.abc import Iterator

from benchmarks.frame import Options, Row, Target
from benchmarks.rivals import ABSURD, OURS, PGQUEUER, PROCRASTINATE
from benchmarks.rounds import beside, cost, measured
from benchmarks.running import Running, Turn
from benchmarks.world import world

CYCLES, BATCH = 20_000, 100
RATIOS = {PGQUEUER: 3.5, PROCRASTINATE: None, ABSURD: None}


def run(options: Options) -> Iterator[Row]:
    """The rows."""

    def in_batches(up: Running) -> Turn:
        cycles = options.size(CYCLES if up.rival is OURS else up.rival.pace * 5, 20)
        return up.turn("submit_many", cycles, batch=options.size(BATCH, 10))

    with world(options) as servers:
        took = measured(servers, [OURS, *RATIOS], in_batches, options)
    own = took[OURS.name]
    yield Row("cycles, 100 at a time", own.rate, "/s", own.best, target=Target(least=8_000))
    yield cost(took)
    yield from beside("cycles, 100 at a time", took, RATIOS)
