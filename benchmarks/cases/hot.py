"""P7, hot: a thousand advances of one machine at the same time, none of them lost, its log without a gap."""

from collections.abc import Iterator
from statistics import median

from benchmarks.frame import Options, Row, Target
from benchmarks.rivals import OURS
from benchmarks.world import world

ADVANCES, CLIENTS = 1_000, 16


def run(options: Options) -> Iterator[Row]:
    """The rows. The client raises if the log has a gap or an event too few."""
    advances, clients = options.size(ADVANCES, 20), options.size(CLIENTS, 4)
    with world(options) as servers, servers.ready(OURS, options) as running:
        rates = [running.only("hot", advances, clients=clients) for _ in range(options.size(5))]
    note = f"{clients} threads, gapless"
    yield Row(
        "advances of one machine", median(rates), "/s", max(rates), target=Target(least=1_000), note=note
    )
