"""P3, drain: a backlog that was committed while no relay and no worker ran, beside the best durable peer's."""

from collections.abc import Iterator

from benchmarks.frame import Options, Row, Target
from benchmarks.rivals import OURS, PGQUEUER, PGQUEUER_STATELESS
from benchmarks.rounds import beside, cost, measured
from benchmarks.running import Running, Turn
from benchmarks.world import World, world

CYCLES, PEERS_CYCLES, BATCH = 100_000, 20_000, 500


def run(options: Options) -> Iterator[Row]:
    """The rows."""

    def drain(up: Running) -> Turn:
        cycles = options.size(CYCLES if up.rival is OURS else PEERS_CYCLES, 20)
        return up.drain(cycles, options.size(BATCH, 10))

    with world(options) as servers:
        took = measured(servers, [OURS, PGQUEUER, PGQUEUER_STATELESS], drain, options, up=World.ready)
    own = took[OURS.name]
    yield Row("cycles of a backlog", own.rate, "/s", own.best, target=Target(least=10_000))
    yield cost(took)
    yield from beside("cycles of a backlog", took, {PGQUEUER: 3, PGQUEUER_STATELESS: None})
