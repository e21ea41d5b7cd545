"""The machines under test: every kind of action. What they do is in `chaos.effects`.

A job takes `Do(id, kind)`; what the kinds ask for is in `KINDS`. Each event of a submitter has an id of its own, and each result
says which attempt it is of: so the log alone tells what was taken twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeAlias
from zlib import crc32

from sqlalchemy import column, insert, table

from chaos.flows import flow
from fsm_core import After, Change, ChildEnded, Failed, Machine, Rejected, Route, Send, Spawn, To, Untracked

LIMIT, MOST_AT_ONCE, LIMIT_KEYS = "chaos", 2, 5
LANES = 10
DESKS = 4
KINDS = {
    "work": 24, "later": 12, "flaky": 8, "slow": 8, "asked": 6, "lane": 10, "limited": 8, "doomed": 4, "killer": 1, "tell": 5,
    "timer": 5, "send": 5, "spawn": 4,
}  # fmt: skip
"""How often each kind is asked for, out of their sum."""


@dataclass(frozen=True)
class Open:
    asked: int = 0
    did: int = 0
    failed: int = 0
    ticks: int = 0
    ended: int = 0


@dataclass(frozen=True)
class Do:
    id: str
    kind: str


@dataclass(frozen=True)
class Bad:
    """Always rejected: nothing of it may be anywhere."""

    id: str


@dataclass(frozen=True)
class Odd:
    """No edge takes it: nothing of it may be anywhere."""

    id: str


@dataclass(frozen=True)
class Did:
    id: str
    attempt: int


@dataclass(frozen=True)
class Ticked:
    id: str


@dataclass(frozen=True)
class Work:
    id: str


@dataclass(frozen=True)
class Slow(Work):
    """Lasts long enough to be hit."""


@dataclass(frozen=True)
class Later(Work):
    """Async."""


@dataclass(frozen=True)
class Flaky(Work):
    """Raises at first."""


@dataclass(frozen=True)
class Asked(Work):
    """With a probe."""


@dataclass(frozen=True)
class Lane(Work):
    """One at a time with all others of its lane."""


@dataclass(frozen=True)
class Limited(Work):
    """Under a limit."""


@dataclass(frozen=True)
class Doomed(Work):
    """Fails until somebody has retried it by hand."""


@dataclass(frozen=True)
class Killer(Work):
    """Kills its process at first."""


@dataclass(frozen=True)
class Tell:
    id: str


Worked: TypeAlias = Work | Slow | Later | Flaky | Asked | Lane | Limited | Doomed | Killer
Failures: TypeAlias = (
    Failed[Work] | Failed[Slow] | Failed[Later] | Failed[Flaky] | Failed[Asked] | Failed[Lane] | Failed[Limited] | Failed[Doomed]
    | Failed[Killer]
)  # fmt: skip


@dataclass(frozen=True)
class Going:
    id: str


@dataclass(frozen=True)
class Gone:
    id: str


@dataclass(frozen=True)
class Went:
    id: str
    attempt: int


@dataclass(frozen=True)
class Go:
    id: str


leg = Machine("leg", states=Going | Gone, events=Went | Failed[Go], actions=Go, final=Gone, queue="others")


@leg.enter
def set_out(state: Going) -> list[Go]:
    return [Go(state.id)]


@leg.on
def went(state: Going, _event: Went | Failed[Go]) -> Gone:
    return Gone(state.id)


@dataclass(frozen=True)
class Listening:
    heard: int = 0


@dataclass(frozen=True)
class Heard:
    id: str


desk = Machine("desk", states=Listening, events=Heard, initial=Listening(), queue="others")


@desk.on
def hear(state: Listening, _event: Heard) -> Listening:
    return Listening(state.heard + 1)


Asks: TypeAlias = Worked | Untracked[Tell]
job = Machine(
    "job",
    states=Open,
    events=Do | Bad | Odd | Did | Ticked | ChildEnded[Gone] | Failed[Spawn] | Failures,
    actions=Asks,
    initial=Open(),
)
TRACKED: dict[str, type[Work]] = {
    "work": Work, "slow": Slow, "later": Later, "flaky": Flaky, "asked": Asked, "lane": Lane, "limited": Limited, "doomed": Doomed,
    "killer": Killer,
}  # fmt: skip


@job.on
def do(
    state: Open, event: Do
) -> To[
    Open,
    Work
    | Slow
    | Later
    | Flaky
    | Asked
    | Lane
    | Limited
    | Doomed
    | Killer
    | Untracked[Tell]
    | After[Ticked]
    | Send
    | Spawn,
]:
    now = replace(state, asked=state.asked + 1)
    if event.kind in TRACKED:
        return now, [TRACKED[event.kind](event.id)]
    if event.kind == "tell":
        return now, [Tell(event.id)]
    if event.kind == "timer":
        return now, [After(timedelta(milliseconds=800), Ticked(event.id), name=event.id)]
    if event.kind == "send":
        return now, [Send(desk, f"desk-{spread(event.id, DESKS)}", Heard(event.id))]
    if event.kind == "spawn":
        return now, [Spawn(leg, f"leg-{event.id}", Going(event.id))]
    return now


@job.on
def bad(_state: Open, event: Bad) -> Open:
    raise Rejected(f"{event.id} is bad")


@job.on
def did(state: Open, _event: Did) -> Open:
    return replace(state, did=state.did + 1)


@job.on
def failed(state: Open, _event: Failures) -> Open:
    return replace(state, failed=state.failed + 1)


@job.on
def ticked(state: Open, _event: Ticked) -> Open:
    return replace(state, ticks=state.ticks + 1)


@job.on
def ended(state: Open, _event: ChildEnded[Gone] | Failed[Spawn]) -> Open:
    return replace(state, ended=state.ended + 1)


@job.route
def where(action: Asks) -> Route:
    if isinstance(action, Lane):
        return Route(queue="lanes", partition_key=group_of(action))
    if isinstance(action, Limited):
        return Route(limit=LIMIT, limit_key=group_of(action))
    if isinstance(action, Killer):
        return Route(queue="killers")
    return Route(priority=3 if isinstance(action, Later) else 5)


@dataclass(frozen=True)
class Twice:
    """Does what `chaos.pairs` asks for, until two processes have died of it. Under a limit: each retry is admitted again."""

    id: str


twice = Machine("twice", states=Open, events=Do | Did | Failed[Twice], actions=Twice, initial=Open())


@twice.on
def do_twice(state: Open, event: Do) -> To[Open, Twice]:
    now = replace(state, asked=state.asked + 1)
    return now, [Twice(event.id)] if event.kind == "twice" else []


@twice.on
def did_twice(state: Open, _event: Did | Failed[Twice]) -> Open:
    return replace(state, did=state.did + 1)


@twice.route
def where_twice(_action: Twice) -> Route:
    return Route(limit=LIMIT)


TOLD = table("told", column("key"), column("seq"))
"""A table of the application's own, which `chaos.pairs` makes."""


@twice.project
def tell_application(change: Change[Open, Do | Did | Failed[Twice]]) -> list[object]:
    """A machine with a projection is decided under its lock: the point before that commit is on the path of every event."""
    return [insert(TOLD).values(key=change.key, seq=change.seq)]


ALL = (job, leg, desk, flow, twice)
QUEUES = ("default", "lanes", "killers", "others")


def spread(id_: str, over: int) -> int:
    """The place of an id among `over`: the same in every process."""
    return crc32(id_.encode()) % over


def group_of(action: Asks) -> str:
    """Which lane or which limit's key an action is of; none: ""."""
    if isinstance(action, Lane):
        return f"lane-{spread(action.id, LANES)}"
    if isinstance(action, Limited):
        return f"limit-{spread(action.id, LIMIT_KEYS)}"
    return ""
