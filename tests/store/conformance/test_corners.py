"""Where births, cancels, held events and versions meet."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from fsm_core import After, CancelChildren, ChildEnded, Context, Failed, Machine, Send, Spawn, To
from fsm_core.errors import ChildExists, NotRetried, TransitionError
from tests.store.conformance.conftest import MakeWorld
from tests.store.conformance.test_versions import V1, V2, first, second
from tests.store.courier import deliver
from tests.store.family import Cracked, Shell, doll
from tests.store.machines import New, NothingToPay, Pay, orders
from tests.store.world import World


@dataclass(frozen=True)
class Nest:
    asked: int = 0
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Empty:
    pass


@dataclass(frozen=True)
class Lay:
    first: int = 0


@dataclass(frozen=True)
class Swap:
    key: str


@dataclass(frozen=True)
class Stubborn:
    pass


@dataclass(frozen=True)
class Hatched:
    key: str


nest = Machine(
    "nest",
    states=Nest | Empty,
    events=Lay | Swap | Hatched | Stubborn | ChildEnded[Cracked] | Failed[Spawn],
    initial=Nest(),
    final=Empty,
)


@nest.on
def lay(state: Nest, event: Lay) -> To[Nest, Spawn]:
    return replace(state, asked=event.first), [Spawn(doll, f"egg{event.first}", Shell(0))]


@nest.on
def stubborn(state: Nest, _event: Stubborn) -> To[Nest, Spawn]:
    return replace(state, asked=-1), [Spawn(doll, "egg0", Shell(0))]


@nest.on
def swap(state: Nest, event: Swap) -> To[Nest, CancelChildren | Spawn]:
    return state, [CancelChildren(), Spawn(doll, event.key, Shell(0))]


@nest.on
def next_one(state: Nest, event: Failed[Spawn]) -> To[Nest, Spawn]:
    told = replace(state, told=(*state.told, str(event.action.key)))
    if "cancelled" in event.error:
        return told
    if state.asked < 0:
        return told, [Spawn(doll, "egg0", Shell(0))]
    following = state.asked + 1
    return replace(told, asked=following), [Spawn(doll, f"egg{following}", Shell(0))]


@nest.on
def hatch(state: Nest, event: Hatched) -> To[Nest, Spawn]:
    return state, [Spawn(doll, event.key, Cracked())]


@nest.on
def hatched(state: Nest, event: ChildEnded[Cracked]) -> Nest:
    return replace(state, told=(*state.told, event.key))


def test_the_next_free_key_is_found_behind_many_taken_ones(world: World) -> None:
    for n in range(8):
        world.store.start(doll, f"egg{n}", Shell(0))
    world.store.start(nest, "n")

    world.store.advance(nest, "n", Lay())

    assert world.store.get(nest, "n").state == Nest(8, tuple(f"egg{n}" for n in range(8)))
    assert world.store.get(doll, "egg8").state == Shell(0)


def test_a_machine_that_asks_for_a_taken_key_for_ever_is_refused(world: World) -> None:
    world.store.start(doll, "egg0", Shell(0))
    world.store.start(nest, "n")
    before = world.contents()

    with pytest.raises(TransitionError, match="entails more than 100"):
        world.store.advance(nest, "n", Stubborn())

    assert world.contents() == before


def test_children_born_after_a_cancel_of_children_live(world: World) -> None:
    world.store.start(nest, "n")
    world.store.advance(nest, "n", Lay())
    world.store.advance(nest, "n", Swap("new"))
    world.store.advance(nest, "n", Lay(7))

    deliver(world, nest, doll)

    assert {r.key: str(r.status) for r in world.store.machines("doll")} == {
        "egg0": "cancelled",
        "new": "live",
        "egg7": "live",
    }


def test_a_failed_spawn_is_not_retried(world: World) -> None:
    world.store.start(doll, "egg0", Shell(0))
    world.store.start(nest, "n")
    world.store.advance(nest, "n", Lay())
    (spawn,) = [a for a in world.store.actions(machine="nest", action="Spawn") if str(a.status) == "failed"]
    before = world.contents()

    with pytest.raises(NotRetried, match="its key was taken"):
        world.store.retry([spawn.id])
    assert world.store.retry([spawn.id, spawn.id]) == []

    assert world.contents() == before


def test_a_child_that_is_born_at_its_end_is_told_of_once(world: World) -> None:
    world.store.start(nest, "n")

    world.store.advance(nest, "n", Hatched("h"))
    deliver(world, nest, doll)

    assert world.store.get(doll, "h").status == "done"
    assert world.store.get(nest, "n").state.told == ("h",)


@dataclass(frozen=True)
class Up:
    again: bool


@dataclass(frozen=True)
class Gone:
    pass


@dataclass(frozen=True)
class Ring:
    pass


mirror = Machine("mirror", states=Up | Gone, events=Ring, final=Gone)


@mirror.enter
def own(state: Up, ctx: Context) -> list[Spawn]:
    return [Spawn(mirror, ctx.key, Up(False))] if state.again else []


@mirror.enter
def alarm(_state: Gone) -> list[After[Ring]]:
    return [After(timedelta(0), Ring(), "bell")]


@mirror.on
def rung(state: Up, _event: Ring) -> Up:
    return state


def test_a_machine_cannot_be_its_own_child(world: World) -> None:
    before = world.contents()
    with pytest.raises(ChildExists):
        world.store.start(mirror, "m", Up(True))
    assert world.contents() == before


def test_what_is_born_at_its_end_has_no_timer(world: World) -> None:
    world.store.start(mirror, "m", Gone())
    assert [a for a in world.store.actions() if a.name == "After" and str(a.status) == "pending"] == []


@dataclass(frozen=True)
class Shut:
    pass


@dataclass(frozen=True)
class Wide:
    heard: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unlock:
    pass


@dataclass(frozen=True)
class Good:
    pass


@dataclass(frozen=True)
class Bad:
    pass


gate = Machine(
    "gate", states=Shut | Wide, events=Unlock | Good | Bad | Failed[Spawn], initial=Shut(), unhandled="defer"
)


@gate.on
def unlock(_state: Shut, _event: Unlock) -> Wide:
    return Wide()


@gate.on
def good(state: Wide, _event: Good) -> Wide:
    return Wide((*state.heard, "good"))


@gate.on
def bad(state: Wide, _event: Bad) -> To[Wide, Spawn]:
    return Wide((*state.heard, "bad")), [Spawn(doll, "taken", Shell(0))]


@gate.on
def buggy(_state: Wide, _event: Failed[Spawn]) -> Wide:
    raise RuntimeError("a bug")


def test_a_bug_that_a_held_event_entails_is_its_own(world: World) -> None:
    world.store.start(doll, "taken", Shell(0))
    world.store.start(gate, "g")
    world.store.advance(gate, "g", Bad())
    world.store.advance(gate, "g", Good())

    world.store.advance(gate, "g", Unlock())

    assert world.store.get(gate, "g").state == Wide(("good",))
    assert [e.name for e in world.store.history(gate, "g")] == ["Shut", "Unlock", "Good"]
    assert world.store.record(gate, "g").held == 1


def test_a_held_event_that_nobody_reads_waits_on(make_world: MakeWorld) -> None:
    world = make_world()
    world.store.start(gate, "g")
    world.store.advance(gate, "g", Bad())
    world.store.advance(gate, "g", Good())
    if hasattr(world, "sql"):
        world.sql("UPDATE fsm.inbox SET name = 'Lost' WHERE name = 'Bad'")
    else:
        tables = world.origin._tables
        for rows in tables.inbox.values():
            rows[:] = [h._replace(name="Lost") if h.name == "Bad" else h for h in rows]

    world.store.advance(gate, "g", Unlock())

    assert world.store.get(gate, "g").state == Wide(("good",))
    assert world.store.record(gate, "g").held == 1


class A:
    @dataclass(frozen=True)
    class Red:
        pass

    @dataclass(frozen=True)
    class Blue:
        pass

    @dataclass(frozen=True)
    class Turn:
        pass


def versions() -> tuple[Any, Any]:
    """The names of two states change places."""
    one = Machine("light", states=A.Red | A.Blue, events=A.Turn, initial=A.Red())

    @one.on
    def turn(_state: A.Red, _event: A.Turn) -> A.Blue:
        return A.Blue()

    @one.timeout(after=3600)
    def late(_state: A.Red) -> A.Blue:
        return A.Blue()

    two = Machine("light", version=2, states=A.Red | A.Blue, events=A.Turn, initial=A.Blue())

    @two.upcast(1, "Red")
    def red(_old: A.Red) -> A.Blue:
        return A.Blue()

    @two.upcast(1, "Blue")
    def blue(_old: A.Blue) -> A.Red:
        return A.Red()

    @two.upcast(1, "Turn")
    def turned(old: A.Turn) -> A.Turn:
        return old

    @two.on
    def turn2(_state: A.Blue, _event: A.Turn) -> A.Red:
        return A.Red()

    @two.timeout(after=7200)
    def late2(_state: A.Red) -> A.Blue:
        return A.Blue()

    return one, two


def test_a_timeout_of_the_state_entered_keeps_its_name(make_world: MakeWorld) -> None:
    one, two = versions()
    make_world().store.start(one, "l")
    world = make_world(machines=(two,))
    world.store.advance(two, "l", A.Turn())
    timers = {(a["timer"], str(a["status"])) for a in world.contents()["actions"]}
    assert timers == {("state:Red", "cancelled"), ("state:Red", "pending")}


@dataclass(frozen=True)
class Caller:
    pass


@dataclass(frozen=True)
class Call:
    pass


def test_a_message_of_an_older_version_reaches_a_newer_one(make_world: MakeWorld) -> None:
    """Its event is in the shape of the machine that its sender knew."""
    old, new = first(), second()
    caller = Machine("caller", states=Caller, events=Call, initial=Caller())

    @caller.on
    def call(state: Caller, _event: Call) -> To[Caller, Send]:
        return state, [Send(old, "a", V1.Pay(5))]

    before = make_world()
    before.store.start(old, "a")
    before.store.start(caller, "c")
    before.store.advance(caller, "c", Call())
    world = make_world(machines=(caller, new))

    deliver(world, caller, new)

    assert world.store.get(new, "a").state == V2.Billing(5, "EUR")


def test_what_is_taken_back_leaves_the_rows_of_others_whole(world: World) -> None:
    world.store.start(orders, 7, New(5))
    world.store.advance(orders, 7, Pay())
    with pytest.raises(NothingToPay):
        world.store.signal_or_start(orders, "poor", Pay(), New(0))

    assert world.store.cancel(orders, 7) == 1

    assert {str(a.status) for a in world.store.actions()} == {"cancelled"}
