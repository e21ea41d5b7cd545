"""Machines that do right and wrong, importable by a second process."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from fsm_core import (
    After,
    At,
    Cancel,
    CancelChildren,
    ChildEnded,
    Context,
    Failed,
    Machine,
    Rejected,
    Route,
    Send,
    Spawn,
    To,
    Untracked,
)
from tests.purity.deeds import Go, Gone, Idle, Left, Say, Tell, do

errands = Machine("errands", states=Idle | Gone, events=Go, actions=Say, initial=Idle())


@errands.on
def go(_state: Idle, event: Go, ctx: Context) -> To[Gone, Say]:
    do(event.deed, ctx)
    return Gone(event.deed), [Say(event.deed)]


everywhere = Machine(
    "everywhere", states=Idle | Gone | Left, events=Go, actions=Say | Untracked[Tell], initial=Idle()
)
wrong_in = SimpleNamespace(function="")
"""The name of the function that does wrong next."""


def here(function: str) -> None:
    if wrong_in.function == function:
        datetime.now(UTC)


@everywhere.on
def on(_state: Idle, _event: Go) -> To[Gone, Say]:
    here("on")
    return Gone(), [Say()]


@everywhere.otherwise
def otherwise(state: Gone, _event: Go) -> Gone:
    here("otherwise")
    return state


@everywhere.enter
def enter(_state: Gone) -> list[Tell]:
    here("enter")
    return [Tell()]


@everywhere.route
def route(_action: Say) -> Route:
    here("route")
    return Route()


def after(_state: Gone) -> float:
    here("after")
    return 1.0


@everywhere.timeout(after=after)
def timeout(_state: Gone) -> Left:
    here("timeout")
    return Left()


@everywhere.restore
def restore(_state: Gone) -> list[Say]:
    here("restore")
    return [Say()]


@everywhere.invariant
def invariant(_state: Gone) -> None:
    here("invariant")


BuiltIn = After | At | Cancel | CancelChildren | Send | Spawn

shifty = Machine("shifty", states=Idle | Gone, events=Go, actions=Say, initial=Idle())
calls: list[int] = []


def by_set(state: Idle) -> list[Say]:
    return [Say(tag) for tag in state.tags]


def by_order(state: Idle) -> list[Say]:
    return [Say(tag) for tag in sorted(state.tags)]


def by_hash(_state: Idle) -> list[Say]:
    return [Say(str(hash("a")))]


def by_memory(_state: Idle) -> list[Say]:
    calls.append(1)
    return [Say(str(len(calls)))]


def refused_by_set(state: Idle) -> list[Say]:
    raise Rejected(" ".join(state.tags))


def refused_by_order(state: Idle) -> list[Say]:
    raise Rejected(" ".join(sorted(state.tags)))


def a_bug(state: Idle) -> list[Say]:
    raise ZeroDivisionError(*state.tags)


def changing(state: Idle) -> list[Say]:
    state.counts["a"] = 1
    return []


def by_generator(_state: Idle) -> Iterator[Say]:
    return (Say(str(datetime.now(UTC))) for _ in range(1))


def built_in(_state: Idle) -> list[object]:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    timers = [After(timedelta(minutes=5), Go("later"), "name"), After(5, Go()), At(at, Go()), Cancel("name")]
    children = [Spawn(errands), Spawn(errands, 7, Idle()), Spawn("errands", "a"), CancelChildren()]
    return [*timers, *children, Send(errands, 7, Go()), Send("errands", "a", Go())]


@shifty.on
def shift(state: Idle, event: Go) -> To[Gone, Say | BuiltIn]:
    return Gone(event.deed), globals()[event.deed](state)


family = Machine(
    "family",
    states=Idle | Gone,
    events=Go | ChildEnded[Left] | Failed[Spawn] | Failed[Say],
    actions=Say,
    initial=Idle(),
)


@family.on
def bear(_state: Idle, _event: Go) -> To[Gone, Spawn]:
    return Gone(), [Spawn(everywhere, "child")]


@family.on
def told(_state: Gone, event: ChildEnded[Left] | Failed[Spawn] | Failed[Say]) -> Gone:
    return Gone(repr(event))


drawing = Machine("drawing", states=Idle | Gone, events=Go, actions=Say, initial=Idle())


@drawing.on
def draw(_state: Idle, _event: Go, ctx: Context) -> To[Gone, Say]:
    return Gone(ctx.now.isoformat()), [Say(f"{ctx.uuid()} {ctx.key} {ctx.seq}")]


@drawing.enter
def arrive(_state: Gone, ctx: Context) -> list[Say]:
    return [Say(str(ctx.random.random()))]
