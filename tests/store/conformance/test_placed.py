"""What a machine is started with: a partition key and a priority for all its actions, and the time when they begin."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Never

import pytest

from fsm_core import After, At, Machine, Rejected, Route, To
from fsm_core.errors import ConfigurationError
from tests.store.courier import deliver
from tests.store.world import World


@dataclass(frozen=True)
class Here:
    rings: int = 0


@dataclass(frozen=True)
class Gone:
    pass


@dataclass(frozen=True)
class Ring:
    pass


@dataclass(frozen=True)
class Work:
    pass


@dataclass(frozen=True)
class Own:
    pass


@dataclass(frozen=True)
class Go:
    until: datetime


placed = Machine(
    "placed", states=Here | Gone, events=Ring | Go, actions=Work | Own, initial=Here(), final=Gone
)


@placed.enter
def begin(state: Here) -> list[Work | Own | After]:
    return [Work(), Own(), After(1, Ring(), "soon")]


@placed.on
def ring(state: Here, _event: Ring) -> To[Here, Work]:
    return Here(state.rings + 1), [Work()]


@placed.on
def go(state: Here, event: Go) -> To[Here, At]:
    return state, [At(event.until, Ring(), "then")]


@placed.route
def own(action: Own) -> Route:
    return Route(priority=1, partition_key="mine", delay=timedelta(hours=2))


def rows(world: World) -> dict[tuple[int, int], dict[str, Any]]:
    return {(row["seq"], row["idx"]): row for row in world.contents()["actions"]}


def test_a_partition_key_and_a_priority_hold_where_the_route_says_nothing(world: World) -> None:
    world.store.start(placed, "a", partition_key="order:42", priority=2)
    world.store.advance(placed, "a", Ring())

    found = rows(world)
    assert [
        (found[at]["lane"], found[at]["priority"], str(found[at]["status"]))
        for at in ((0, 0), (0, 1), (1, 0))
    ] == [
        ("key:order:42", 2, "blocked"),
        ("key:mine", 1, "blocked"),
        ("key:order:42", 2, "blocked"),
    ]
    assert (found[0, 2]["lane"], str(found[0, 2]["status"])) == (None, "pending")  # a timer waits for nobody


def test_without_them_nothing_is_different(world: World) -> None:
    world.store.start(placed, "a")

    assert (rows(world)[0, 0]["lane"], rows(world)[0, 0]["priority"]) == (None, 5)


def test_a_start_at_a_time_is_there_at_once_and_begins_then(world: World) -> None:
    now = world.store.start(placed, "x").created_at
    later = now + timedelta(days=1)

    born = world.store.start(placed, "a", at=later)

    assert (born.state, born.seq) == (Here(), 0)
    due = {a.name: a.run_at for a in world.store.actions(machine="placed", key="a")}
    assert abs(due["Work"] - later) < timedelta(minutes=1)
    assert abs(due["Own"] - later - timedelta(hours=2)) < timedelta(minutes=1)
    assert abs(due["After"] - later - timedelta(seconds=1)) < timedelta(minutes=1)
    deliver(world, placed)
    assert world.store.get(placed, "a").state == Here()


def test_a_time_that_has_passed_is_now(world: World) -> None:
    now = world.store.start(placed, "x").created_at

    world.store.start(placed, "a", at=now - timedelta(days=1))

    (work,) = [a for a in world.store.actions(key="a", machine="placed") if a.name == "Work"]
    assert abs(work.run_at - now) < timedelta(minutes=1)


def test_a_machine_that_signals_came_before_is_placed_too(world: World) -> None:
    world.store.signal(placed, "a", Ring())

    world.store.start(placed, "a", partition_key="p", priority=0)
    world.store.advance(placed, "a", Ring())

    assert {(row["lane"], row["priority"]) for row in rows(world).values() if row["name"] == "Work"} == {
        ("key:p", 0)
    }


shy = Machine("shy", states=Here, events=Ring)


@shy.enter
def refuse(state: Here) -> list[Never]:
    if state.rings < 0:
        raise Rejected("no such thing")
    return []


@shy.on
def fail(_state: Here, _event: Ring) -> Here:
    raise ZeroDivisionError("a bug")


def test_a_birth_that_is_refused_places_nothing_of_what_waits_for_it(world: World) -> None:
    world.store.signal(shy, "a", Ring())
    before = world.contents()

    with pytest.raises(Rejected, match="no such thing"):
        world.store.start(shy, "a", Here(-1), partition_key="p", priority=0)

    assert world.contents() == before


def test_what_waits_for_a_birth_and_has_a_bug_is_held_on_and_said(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.store.signal(shy, "a", Ring())

    assert world.store.start(shy, "a", Here()).seq == 0

    assert world.store.record(shy, "a").held == 1
    (said,) = [r for r in caplog.records if r.name.startswith("fsm_core")]
    assert "a held Ring could not be applied" in said.getMessage()
    assert "a bug" in caplog.text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"partition_key": ""}, "partition_key"),
        ({"partition_key": "x" * 256}, "partition_key"),
        ({"priority": 10}, "priority"),
        ({"priority": -1}, "priority"),
        ({"at": datetime(2026, 1, 1)}, "aware"),  # noqa: DTZ001 - what is refused
    ],
)
def test_what_no_row_could_hold_is_refused(world: World, given: dict[str, Any], says: str) -> None:
    before = world.contents()

    with pytest.raises(ConfigurationError, match=says):
        world.store.start(placed, "a", **given)

    assert world.contents() == before
