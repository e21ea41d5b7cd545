"""What a run does: how much, for how long, with which faults; and which event is submitted by whom, and how."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zlib import crc32

from chaos.machines import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STYLES = {"dedup": 45, "own": 25, "session": 15, "rolled back": 3, "many": 10, "bad": 3, "odd": 2}
"""How an event is submitted. bad, odd: one that must be refused is submitted beside it. rolled back: by its caller."""

_WORKER = (
    "worker.after_receive:5",
    "worker.after_claim:5",
    "worker.in_effect:5",
    "worker.after_effect:5",
    "worker.after_finish:3",
)
MIGRATION = ("migrate.mid",)
CRASHES = {
    "threads": _WORKER, "solo": _WORKER[2:] + _WORKER[:2], "proxied": _WORKER[4:] + _WORKER[:4],
    "relay-0": ("relay.after_mark:3", "relay.after_publish:3", "relay.after_admit:2") * 2,
    "relay-1": ("reconcile.after_dead", "reconcile.after_requeue") * 2,
    "submitter-0": ("advance.after_commit:3", "advance.before_commit"), "submitter-1": ("advance.before_commit", "advance.after_commit:3"),
}  # fmt: skip
"""Every crash point at least twice, over the starts of a run's processes; `MIGRATION` comes before them. Prefork is left out: its children
inherit what their parent is armed with, and would never stop to die."""

SLOTS = {"threads": 4, "prefork": 2, "solo": 1}
"""How many effects a worker of each pool runs at once."""

WORKERS = {"threads": "threads", "prefork": "prefork", "solo": "solo", "proxied": "threads"}
"""The pool of each worker, by its name."""

TAIL = 5
"""How many more events each submitter brings after the last fault."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault: how often in a run at least, and how many of these must hit work in flight."""

    times: int
    hits: int = 0


@dataclass(frozen=True)
class Plan:
    """A run.

    seconds: over which events and faults are spread. lease: of the processes, in seconds. faults: by name, see
    `chaos.faults`. kinds, styles: the mix of events. submitters: how many, the first of them async. workers: pool by name.
    crashes: the crash points that a process is armed with at its first start, its second, ... duplicates: how often the broker's messages
    are meddled with. patience: in seconds, how long after the last fault everything must have ended, what waits for the operator too.
    spared: workers and relays that no fault kills or stops, so that one sees what becomes of a process that lives long.
    blow: whether it ends with `chaos.blow`, from which recovery is measured.
    """

    name: str
    machines: int
    events: int
    seconds: float
    seed: int = 1
    lease: float = 4.0
    faults: Mapping[str, Fault] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=lambda: dict(KINDS))
    styles: Mapping[str, int] = field(default_factory=lambda: dict(STYLES))
    submitters: int = 3
    workers: Mapping[str, str] = field(default_factory=lambda: dict(WORKERS))
    relays: int = 2
    operator: bool = True
    crashes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    duplicates: float = 0.3
    patience: float = 90.0
    spared: tuple[str, ...] = ()
    blow: bool = False

    @property
    def total(self) -> int:
        """How many events in all, but for the tails."""
        return self.machines * self.events


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a submitter."""

    id: str
    key: str
    kind: str
    style: str


def chosen(id_: str, what: str, weights: Mapping[str, int]) -> str:
    """One of `weights`, by the id alone: every process and every repetition chooses the same."""
    place = crc32(f"{what} {id_}".encode()) % sum(weights.values())
    for name, weight in weights.items():
        if place < weight:
            return name
        place -= weight
    raise AssertionError


def share(plan: Plan, index: int) -> Iterator[Event]:
    """The events of one submitter, in its order."""
    ids = [
        (n, m)
        for n in range(plan.events)
        for m in range(plan.machines)
        if (m * 31 + n) % plan.submitters == index
    ]
    rnd = random.Random(f"{plan.seed} {index}")
    # Near its turn, and no more: the events of one machine come from all submitters at once.
    ids.sort(key=lambda each: each[0] + rnd.random() * 3)
    for n, m in ids:
        yield _event(plan, f"{plan.seed}.{m}.{n}", m)


def tail(plan: Plan, index: int) -> list[Event]:
    """What it brings after the last fault."""
    return [
        Event(f"{plan.seed}.tail{index}.{n}", f"job-{index % plan.machines}", "work", "dedup")
        for n in range(TAIL)
    ]


def _event(plan: Plan, id_: str, machine: int) -> Event:
    return Event(id_, f"job-{machine}", chosen(id_, "kind", plan.kinds), chosen(id_, "style", plan.styles))
