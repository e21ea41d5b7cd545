"""Fan-out and fan-in: `Gather` with its join, and gen_durable's own way, by steps, signals and awaits alone."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from fsm_core import Machine, Spawn
from fsm_core.memory import MemoryStore
from fsm_core.steps import Await, Child, Done, Gather, Next, StepContext, Steps, Stop
from tests.steps.drive import drive, pass_time
from tests.store.world import World

SOON = timedelta(hours=1)


@dataclass(frozen=True)
class Trip:
    places: tuple[str, ...] = ()
    need: int | None = None
    timeout: timedelta | None = None


@dataclass(frozen=True)
class Go:
    pass


leg = Steps("leg", state=Trip, signals=Go)


@leg.step
def book(state: Trip, ctx: StepContext) -> Done | Stop | Await[Trip]:
    """`full` is; `late` waits for its signal."""
    (place,) = state.places
    if place == "late" and not ctx.signals:
        return Await(Go, state)
    return Stop("full") if place == "full" else Done({"place": place})


trip = Steps("trip", state=Trip, children=[leg])
heard: list[tuple[tuple[Child, ...], bool]] = []


@trip.step
def plan(state: Trip, ctx: StepContext) -> Gather[Trip]:
    legs = [
        Spawn(leg, f"{ctx.key}-{n}-{place}", Next(book, Trip((place,))))
        for n, place in enumerate(state.places)
    ]
    return Gather(legs, state, pack, need=state.need, timeout=state.timeout)


@trip.step
def pack(state: Trip, ctx: StepContext) -> Done:
    heard.append((ctx.children, ctx.timed_out))
    return Done({"well": [child.key for child in ctx.children if not child.failed]})


@pytest.fixture(autouse=True)
def forgotten() -> None:
    heard.clear()


def started(world: World, *places: str, **options: Any) -> None:
    world.store.start(trip, "t", Next(plan, Trip(places, **options)))
    drive(world, trip, leg, jump=False)


def ends(world: World, key: str = "t") -> Counter[str]:
    """How often each child's end stands in the log."""
    told = [e for e in world.store.history(trip, key) if e.name.startswith(("ChildEnded", "Failed[Spawn]"))]
    return Counter(str(e.payload.get("key") or e.payload["action"]["key"]) for e in told)  # type: ignore[index]


def states(world: World) -> dict[str, str]:
    return {r.key: f"{r.state_name} {r.status.value}" for r in world.store.machines("leg")}


def test_all_children_end_well_or_not_and_each_is_counted_once(world: World) -> None:
    started(world, "rome", "full", "oslo")

    assert world.store.get(trip, "t").state == Done({"well": ["t-0-rome", "t-2-oslo"]})
    ((children, timed_out),) = heard
    assert not timed_out
    assert sorted(children, key=lambda child: child.key) == [
        Child("leg", "t-0-rome", "Done", {"place": "rome"}),
        Child("leg", "t-1-full", "Stop", {"reason": "full"}, failed=True),
        Child("leg", "t-2-oslo", "Done", {"place": "oslo"}),
    ]
    assert ends(world) == {"t-0-rome": 1, "t-1-full": 1, "t-2-oslo": 1}


def test_children_are_born_in_the_commit_that_parks_the_parent(world: World) -> None:
    world.store.start(trip, "t", Next(plan, Trip(("late", "rome"))))
    drive(world, trip, jump=False)  # nobody here runs a leg

    now = world.store.get(trip, "t").state
    assert isinstance(now, Gather)
    assert now.join is not None
    assert now.join.open == ("leg/t-0-late", "leg/t-1-rome")
    assert states(world) == {"t-0-late": "Next live", "t-1-rome": "Next live"}


def test_the_parent_waits_for_the_last_one(world: World) -> None:
    started(world, "rome", "late")
    assert heard == []

    world.store.signal(leg, "t-1-late", Go())
    drive(world, trip, leg)

    assert [child.key for child in heard[0][0]] == ["t-0-rome", "t-1-late"]


def test_as_many_as_are_needed_are_enough_and_the_rest_is_cancelled(world: World) -> None:
    started(world, "rome", "late", "oslo", "late", need=2)

    assert world.store.get(trip, "t").state == Done({"well": ["t-0-rome", "t-2-oslo"]})
    assert states(world)["t-1-late"] == states(world)["t-3-late"] == "Await cancelled"


def test_as_soon_as_too_few_are_left_it_goes_on(world: World) -> None:
    started(world, "late", "full", "late", need=3)

    ((children, _),) = heard
    assert [child.key for child in children] == ["t-1-full"]
    assert set(states(world).values()) == {"Await cancelled", "Stop failed"}


def test_after_its_time_it_goes_on_with_those_that_have_ended(world: World) -> None:
    started(world, "late", "rome", timeout=SOON)
    assert heard == []

    pass_time(world, SOON)
    drive(world, trip, leg, jump=False)

    ((children, timed_out),) = heard
    assert timed_out
    assert [child.key for child in children] == ["t-1-rome"]
    assert states(world)["t-0-late"] == "Await cancelled"


def test_when_all_are_back_in_time_the_deadline_ends(world: World) -> None:
    started(world, "rome", timeout=SOON)
    assert [a.status for a in world.store.actions(action="After")] == ["cancelled"]
    assert not heard[0][1]


def test_without_children_there_is_nothing_to_wait_for(world: World) -> None:
    started(world)
    assert heard == [((), False)]


def test_a_child_that_is_cancelled_has_failed(world: World) -> None:
    started(world, "rome", "late")

    world.store.cancel(leg, "t-1-late", "no more")
    drive(world, trip, leg)

    child = heard[0][0][1]
    assert (child.key, child.state, child.failed) == ("t-1-late", "", True)
    assert child.result == {"error": "cancelled: no more"}


def test_a_child_whose_key_is_taken_has_failed(world: World) -> None:
    world.store.start(leg, "t-0-rome", Await(Go, Trip(("late",)), then=book))

    started(world, "rome", "oslo")

    children = {child.key: child for child in heard[0][0]}
    assert children["t-0-rome"] == Child(
        "leg", "t-0-rome", "", {"error": "leg/t-0-rome exists already"}, failed=True
    )
    assert not children["t-1-oslo"].failed
    assert ends(world) == {"t-0-rome": 1, "t-1-oslo": 1}


def test_a_cancelled_parent_takes_its_children_along(world: World) -> None:
    started(world, "late", "late")
    world.store.cancel(trip, "t")
    drive(world, trip, leg)
    assert set(states(world).values()) == {"Await cancelled"}
    assert heard == []


def test_a_replay_after_the_join_is_shown_the_children_again() -> None:
    from fsm_core.steps import Replay

    seen = list[tuple[int, int]]()
    again = Steps("again", state=Trip, children=[leg])

    @again.step
    def begin(state: Trip, ctx: StepContext) -> Gather[Trip]:
        return Gather([Spawn(leg, None, Next(book, Trip(("rome",))))], state, join)

    @again.step
    def join(state: Trip, ctx: StepContext) -> Replay[Trip] | Done:
        seen.append((ctx.attempt, len(ctx.children)))
        return Replay(state) if ctx.attempt == 0 else Done()

    store = MemoryStore(again, leg)
    store.start(again, "k", Next(begin, Trip()))
    store.drain()
    assert seen == [(0, 1), (1, 1)]
    assert [record.key for record in store.machines("leg")] == ["k/1.0"]


def test_a_flow_may_gather_itself_and_they_in_turn(world: World) -> None:
    """A sum over a tree: each node bears its own kind. No key is given, each is the parent's with a number."""

    @dataclass(frozen=True)
    class Node:
        depth: int

    tree = Steps("tree", state=Node)

    @tree.step
    def split(state: Node) -> Gather[Node] | Done:
        if state.depth == 0:
            return Done({"leaves": 1})
        halves = [Spawn(tree, None, Next(split, Node(state.depth - 1))) for _ in range(2)]
        return Gather(halves, state, total)

    @tree.step
    def total(state: Node, ctx: StepContext) -> Done:
        return Done({"leaves": sum(child.result["leaves"] for child in ctx.children)})

    world.store.start(tree, "root", Next(split, Node(3)))
    drive(world, tree)

    assert world.store.get(tree, "root").state == Done({"leaves": 8})
    assert len(world.store.machines("tree")) == 15


def test_a_key_that_would_grow_too_long_is_made_of_the_id(world: World) -> None:
    key = "k" * 255
    lone = Steps("lone", state=Trip, children=[leg])

    @lone.step
    def only(state: Trip) -> Gather[Trip]:
        return Gather([Spawn(leg, None, Next(book, Trip(("rome",))))], state, over)

    @lone.step
    def over(state: Trip, ctx: StepContext) -> Done:
        return Done({"of": ctx.children[0].result["place"]})

    made = world.store.start(lone, key, Next(only, Trip()))
    drive(world, lone, leg)

    assert world.store.get(lone, key).state == Done({"of": "rome"})
    assert [record.key for record in world.store.machines("leg")] == [f"{made.id}.1.0"]


@dataclass(frozen=True)
class Open:
    pass


@dataclass(frozen=True)
class Shut:
    why: str


@dataclass(frozen=True)
class Close:
    why: str


gate = Machine("gate", states=Open | Shut, events=Close, initial=Open(), final=Shut)


@gate.on
def close(_state: Open, event: Close) -> Shut:
    return Shut(event.why)


def test_children_may_be_of_any_machine(world: World) -> None:
    """What its final state holds is the result."""
    guard = Steps("guard", state=Trip, children=[gate, leg])
    seen = list[Child]()

    @guard.step
    def stand(state: Trip) -> Gather[Trip]:
        return Gather([Spawn(gate, "g"), Spawn(leg, "l", Next(book, Trip(("rome",))))], state, go)

    @guard.step
    def go(state: Trip, ctx: StepContext) -> Done:
        seen.extend(ctx.children)
        return Done()

    world.store.start(guard, "k", Next(stand, Trip()))
    drive(world, guard, gate, leg)
    world.store.advance(gate, "g", Close("night"))
    drive(world, guard, gate, leg)

    assert seen == [
        Child("leg", "l", "Done", {"place": "rome"}),
        Child("gate", "g", "Shut", {"why": "night"}),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: [Spawn("leg", "x")],
        lambda: [Spawn(gate, "x")],
        lambda: [Spawn(leg, "x")],
        lambda: [Spawn(leg, "x", Next("nowhere", Trip()))],
        lambda: [Spawn(leg, "x", Next(book, Trip())), Spawn(leg, "x", Next(book, Trip()))],
        lambda: [Spawn(leg, "", Next(book, Trip()))],
        lambda: [Spawn(leg, None, Next(book, Trip(("x" * 40_000,)))) for _ in range(2)],
        lambda: [Spawn(leg, None, Next(book, Trip())) for _ in range(1001)],
        lambda: [Spawn(leg, "k" * 200 + str(n), Next(book, Trip())) for n in range(300)],
    ],
)
def test_children_that_cannot_be_are_an_exception_of_the_step(wrong: Callable[[], Any]) -> None:
    """No name, a stranger, no state, no step, a key twice, none at all; and more than the state could ever keep."""
    it, asked = Steps("it", state=Trip, children=[leg]), list[Exception]()

    @it.step
    def bear(state: Trip) -> Gather[Trip]:
        return Gather(wrong(), state, bear)

    @it.on_error
    def handle(reason: Exception, state: Trip) -> Stop:
        asked.append(reason)
        return Stop("no")

    store = MemoryStore(it, leg)
    store.start(it, "k", Next(bear, Trip()))

    assert store.drain().bugs == ()
    assert len(asked) == 1
    assert store.machines("leg") == []


def test_need_is_a_number_of_children() -> None:
    from fsm_core.errors import TransitionError

    for need in (0, -1):
        with pytest.raises(TransitionError):
            Gather([Spawn(leg, "x", Next(book, Trip()))], Trip(), "pack", need=need)
