"""P8, memory: what relay and worker hold after a million actions, against what they held after a tenth of them."""

from collections.abc import Iterator
from contextlib import suppress

import psutil

from benchmarks.frame import Options, Row, Target
from benchmarks.rivals import OURS
from benchmarks.running import Running, family
from benchmarks.world import world

ACTIONS, AT_ONCE, BATCH = 1_000_000, 20_000, 100


def run(options: Options) -> Iterator[Row]:
    """The rows."""
    actions = options.scaled(ACTIONS, 40)
    with world(options) as servers, servers.up(OURS, options) as running:
        turned(running, actions // 10)
        before = held(running)
        turned(running, actions - actions // 10)
        after = held(running)
    for name, mebibytes in after.items():
        note = f"{before[name]:.1f} -> {mebibytes:.1f} MiB, {actions:,} actions"
        growth = (mebibytes / before[name] - 1) * 100
        yield Row(f"growth of the {name}", growth, "%", target=Target(most=5), note=note)
    yield Row("memory of the relay", after["relay"], "MiB", target=Target(most=80))


def turned(running: Running, actions: int) -> None:
    """So many actions, never too many of them waiting."""
    for begun in range(0, actions, AT_ONCE):
        count = min(AT_ONCE, actions - begun)
        running.turn("submit_many", count, batch=min(BATCH, count))


def held(running: Running) -> dict[str, float]:
    """Process -> the memory that it has for itself or shares, its children's too, in MiB."""
    found = dict.fromkeys(running.processes, 0.0)
    for name, pid in running.processes.items():
        for process in family(pid):
            with suppress(psutil.NoSuchProcess):
                found[name] += process.memory_info().rss / 2**20
    return found
