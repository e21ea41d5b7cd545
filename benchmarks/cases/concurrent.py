"""P1, concurrent: 8 clients commit work one by one while relay and worker run, beside durable and undurable peers."""

from collections.abc import Iterator

from benchmarks.frame import Options, Row, Target
from benchmarks.rivals import CELERY, CELERY_STATE, CELERY_TUNED, DBOS, DURABLE, OURS, PGQUEUER
from benchmarks.rounds import beside, cost, measured
from benchmarks.running import Running, Turn
from benchmarks.world import world

CLIENTS = 8
SECONDS = 4
RATIOS = {PGQUEUER: 3, DBOS: 10, CELERY: 1}


def run(options: Options) -> Iterator[Row]:
    """The rows."""

    def one_by_one(up: Running) -> Turn:
        return up.turn("submit", options.size(up.rival.pace * SECONDS, 16), clients=CLIENTS)

    peers = (*DURABLE, CELERY_STATE, CELERY, CELERY_TUNED)
    with world(options) as servers:
        took = measured(servers, [OURS, *peers], one_by_one, options)
    own = took[OURS.name]
    yield Row("cycles, one by one", own.rate, "/s", own.best, target=Target(least=2_000))
    yield cost(took)
    yield from beside("cycles, one by one", took, {peer: RATIOS.get(peer) for peer in peers})
