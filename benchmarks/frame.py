"""What a benchmark is made of: rows with a target, and rounds in which the rivals take turns."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Protocol


@dataclass(frozen=True)
class Options:
    """How a benchmark is run.

    smoke: one tiny round, to see that it works; its figures say nothing. peers: whether the peers are asked too. scale: of the benchmarks that fill or run a million:
    0.1 is a tenth of each. world: servers that are up already (`benchmarks.world.World`), for those that need some.
    """

    smoke: bool = False
    peers: bool = True
    scale: float = 1.0
    world: object = None

    def size(self, full: int, smoke: int = 1) -> int:
        """How many: `full`, or `smoke` where nothing is measured."""
        return smoke if self.smoke else full

    def scaled(self, full: int, smoke: int = 1) -> int:
        """How many of what is too many for a quick look."""
        return smoke if self.smoke else max(int(full * self.scale), smoke)


@dataclass(frozen=True)
class Target:
    """What is to be reached: `least` or `most`, of the figure itself or (`ratio`) of figure / limit."""

    least: float | None = None
    most: float | None = None
    ratio: bool = False

    def met(self, row: "Row") -> bool:
        """Whether the row reaches it; a ratio to nothing does not."""
        value = row.ratio if self.ratio else row.figure
        if value is None:
            return False
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    what: what was measured. figure: in `unit`; where there are rounds, their median. best: of the rounds. against: the
    peer or the limit, with its own figure of the same run in `limit`. target: what is to be reached. note: what else is
    to be known.
    """

    what: str
    figure: float
    unit: str
    best: float | None = None
    against: str = ""
    limit: float | None = None
    target: Target | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The figure as a part of the limit."""
        return None if self.limit is None or self.limit == 0 else self.figure / self.limit

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        return None if self.target is None else self.target.met(self)


class Benchmark(Protocol):
    """The `run` of a module in `benchmarks.cases`."""

    def __call__(self, options: Options) -> Iterable[Row]:
        """Measure, and give the rows."""
        ...


Work = Callable[[int], object]
"""Does something so many times; the loop is its own, so that no call of the frame is in the figure."""


@dataclass(frozen=True)
class Rounds:
    """Seconds for one time, round by round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the rounds, in seconds."""
        return median(self.seconds)

    @property
    def best(self) -> float:
        """The shortest one, in seconds."""
        return min(self.seconds)


def interleaved(rivals: Mapping[str, Work], *, times: int, rounds: int) -> dict[str, Rounds]:
    """Let the rivals take turns, `rounds` times, each doing its work `times` times; name -> its rounds.

    Turns, because one machine is slower now and quicker then; a warm-up round before, which does not count. The order
    turns round from round to round, so that nobody always runs behind the same one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    turns = list(rivals.items())
    for work in rivals.values():
        work(max(1, times // 10))
    with without_gc():
        for number in range(rounds):
            for name, work in turns if number % 2 == 0 else reversed(turns):
                begin = perf_counter()
                work(times)
                seconds[name].append((perf_counter() - begin) / times)
            gc.collect()
    return {name: Rounds(tuple(each)) for name, each in seconds.items()}


@contextmanager
def without_gc() -> Iterator[None]:
    """No collection falls into somebody's turn."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def per_second(what: str, own: Rounds, against: str, peer: Rounds, target: Target | None = None) -> Row:
    """A row of rates, held against a peer's."""
    return Row(what, 1 / own.median, "/s", 1 / own.best, against, 1 / peer.median, target)


def microseconds(what: str, own: Rounds, against: str, peer: Rounds, target: Target | None = None) -> Row:
    """A row of durations, held against a peer's."""
    return Row(what, own.median * 1e6, "us", own.best * 1e6, against, peer.median * 1e6, target)
