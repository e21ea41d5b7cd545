"""Rivals that take turns with real processes, and the rows that come of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median

from benchmarks.frame import Options, Row, Target
from benchmarks.rivals import OURS, Rival
from benchmarks.running import Running, Turn
from benchmarks.world import World

MISSING = "not installed (python -m benchmarks.peers), or not asked"


@dataclass(frozen=True)
class Took:
    """The turns of one rival: medians, and the best."""

    turns: tuple[Turn, ...]

    @property
    def rate(self) -> float:
        """Cycles/s."""
        return median(turn.rate for turn in self.turns)

    @property
    def best(self) -> float:
        """Cycles/s of the best turn."""
        return max(turn.rate for turn in self.turns)

    @property
    def cpu(self) -> float:
        """Microseconds of all processes for a cycle."""
        return median(sum(turn.cpu.values()) for turn in self.turns)

    @property
    def shares(self) -> str:
        """The same by process."""
        return ", ".join(
            f"{name} {median(turn.cpu[name] for turn in self.turns):.0f}" for name in self.turns[0].cpu
        )


def present_of(rivals: Iterable[Rival], options: Options) -> list[Rival]:
    """Those that can be measured: ourselves, and the peers that are installed if they are asked at all."""
    return [rival for rival in rivals if rival is OURS or (options.peers and rival.installed)]


Up = Callable[[World, Rival, Options], AbstractContextManager[Running]]
"""How a rival is brought up for its turn."""


def measured(
    world: World,
    rivals: Sequence[Rival],
    work: Callable[[Running], Turn],
    options: Options,
    up: Up = World.up,
) -> dict[str, Took]:
    """Let the rivals take turns, each alone on the machine; name -> its turns. Who is not installed is not in it."""
    present = present_of(rivals, options)
    turns: dict[str, list[Turn]] = {rival.name: [] for rival in present}
    for number in range(options.size(3)):
        for rival in present if number % 2 == 0 else reversed(present):
            with up(world, rival, options) as running:
                turns[rival.name].append(work(running))
    return {name: Took(tuple(each)) for name, each in turns.items()}


def beside(what: str, took: Mapping[str, Took], targets: Mapping[Rival, float | None]) -> Iterator[Row]:
    """Our rate beside each peer's, each with the ratio that is to be reached (None: none is)."""
    own = took[OURS.name]
    for peer, ratio in targets.items():
        target = None if ratio is None else Target(least=ratio, ratio=True)
        found = took.get(peer.name)
        note = MISSING if found is None else f"its CPU for a cycle: {found.cpu:,.0f} us ({found.shares})"
        yield Row(what, own.rate, "/s", None, peer.name, None if found is None else found.rate, target, note)


def cost(took: Mapping[str, Took]) -> Row:
    """What one of our cycles costs: what a busy machine does to a rate it does not do to this."""
    own = took[OURS.name]
    return Row("CPU of all processes for a cycle", own.cpu, "us", note=own.shares)
