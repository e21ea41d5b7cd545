"""A flow keeps the version that it was started with; a newer one reads it, if it says how."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from fsm_core import audit
from fsm_core.errors import DefinitionError, UnknownMachine
from fsm_core.registry import Registry
from fsm_core.steps import Await, Done, Next, Replay, StepContext, Steps
from tests.steps.drive import drive
from tests.store.world import World


class V1:
    @dataclass(frozen=True)
    class Order:
        name: str

    @dataclass(frozen=True)
    class Paid:
        cents: int


class V2:
    @dataclass(frozen=True)
    class Order:
        first: str
        last: str
        cents: tuple[int, ...] = ()

    @dataclass(frozen=True)
    class Paid:
        cents: int
        currency: str


Any1 = Next[V1.Order] | Replay[V1.Order] | Await[V1.Order] | Done
Any2 = Next[V2.Order] | Replay[V2.Order] | Await[V2.Order] | Done


def first() -> Steps[Any, Any]:
    flow = Steps("flow", state=V1.Order, signals=V1.Paid)

    @flow.step
    def begin(state: V1.Order) -> Any1:
        return Await(V1.Paid, state, timeout=3600)

    @flow.step
    def again(state: V1.Order) -> Any1:
        return Replay(state, 3600)

    @flow.step
    def hoard(state: V1.Order, ctx: StepContext) -> Any1:
        return Await(V1.Paid, state) if len(ctx.signals) < 2 else Done({"old": True})

    return flow


def order(old: V1.Order) -> V2.Order:
    return V2.Order(*old.name.split(" ", 1))


def second(*, upcasts: bool = True) -> Steps[Any, Any]:
    flow = Steps("flow", state=V2.Order, signals=V2.Paid, version=2)

    def ended(state: V2.Order, ctx: StepContext) -> Done:
        paid = [f"{each.cents} {each.currency}" for each in ctx.signals if isinstance(each, V2.Paid)]
        return Done({"first": state.first, "paid": paid, "attempt": ctx.attempt})

    @flow.step
    def begin(state: V2.Order, ctx: StepContext) -> Any2:
        return ended(state, ctx)

    @flow.step
    def again(state: V2.Order, ctx: StepContext) -> Any2:
        return ended(state, ctx)

    @flow.step
    def hoard(state: V2.Order, ctx: StepContext) -> Any2:
        return Await(V2.Paid, state) if len(ctx.signals) < 2 else ended(state, ctx)

    if upcasts:
        flow.upcast(1, "Order")(order)

        @flow.upcast(1, "Paid")
        def paid(old: V1.Paid) -> V2.Paid:
            return V2.Paid(old.cents, "EUR")

    return flow


ADA = V1.Order("Ada Byron")


def test_a_flow_ends_on_the_version_that_it_began_with_beside_a_newer_one(world: World) -> None:
    old, new = first(), second(upcasts=False)
    world.store.start(old, "o", Await(V1.Paid, ADA, then="hoard"))
    world.store.start(new, "n", Next("begin", V2.Order("Ada", "Byron")))
    for each in (1, 2):
        world.store.signal(old, "o", V1.Paid(each))

    drive(world, old, new)

    assert world.store.get(old, "o").state == Done({"old": True})
    assert world.store.get(old, "o").version == 1
    assert world.store.get(new, "n").state == Done({"first": "Ada", "paid": [], "attempt": 0})


def test_without_its_version_a_flow_waits_and_no_attempt_is_spent(world: World) -> None:
    old, new = first(), second(upcasts=False)
    world.store.start(old, "o", Next("hoard", ADA))

    drive(world, new, jump=False)
    (action,) = world.store.actions(key="o")
    assert (action.attempt, action.status) == (0, "pending")

    drive(world, old)
    assert isinstance(world.store.get(old, "o").state, Await)


def test_without_upcasters_a_newer_version_does_not_read_an_older_ones_rows() -> None:
    with pytest.raises(UnknownMachine):
        Registry([second(upcasts=False)]).reader("flow", 1)
    assert Registry([second()]).reader("flow", 1).version == 2


@pytest.mark.parametrize(("step", "attempt"), [("begin", 0), ("again", 1)])
def test_one_upcaster_of_the_data_reads_them_wherever_they_stand(
    world: World, step: str, attempt: int
) -> None:
    """In what waits for a signal, and in what waits for its time."""
    old, new = first(), second()
    world.store.start(old, "o", Next(step, ADA))
    drive(world, old, jump=False)

    drive(world, new)

    end = world.store.get(new, "o")
    assert end.version == 2
    assert end.state == Done({"first": "Ada", "paid": [], "attempt": attempt})


def test_an_action_of_an_older_version_is_run_by_a_newer_one(world: World) -> None:
    old, new = first(), second()
    world.store.start(old, "o", Next("begin", ADA))

    drive(world, new)

    assert world.store.get(new, "o").state == Done({"first": "Ada", "paid": [], "attempt": 0})


def test_signals_of_an_older_version_are_read_whether_held_or_shown_already(
    world: World, later: World
) -> None:
    """Seen without the version beside what is shown: the old signal did not fit its class any more, and the flow stopped."""
    old, new = first(), second()
    world.store.start(old, "o", Next("hoard", ADA))
    world.store.signal(old, "o", V1.Paid(1))
    drive(world, old, jump=False)
    assert isinstance(world.store.get(old, "o").state, Await)

    later.store.signal(new, "o", V2.Paid(2, "USD"))
    drive(world, new)

    end = later.store.get(new, "o").state
    assert end == Done({"first": "Ada", "paid": ["1 EUR", "2 USD"], "attempt": 0})


def test_an_upcaster_of_one_outcome_comes_before_that_of_the_data(world: World, later: World) -> None:
    """For what is about the outcome itself: where a flow that waits goes on."""
    old, new = first(), second()

    @new.upcast(1, "Await")
    def waiting(old: Await[V1.Order]) -> Await[V2.Order]:
        return replace(old, state=V2.Order("Bob", "Byron"), then="again")  # type: ignore[arg-type, return-value]

    world.store.start(old, "o", Next("begin", ADA))
    drive(world, old, jump=False)
    assert later.store.get(new, "o").state == Await(
        V2.Paid, V2.Order("Bob", "Byron"), timeout=3600, then="again"
    )

    drive(world, new)

    assert later.store.get(new, "o").state == Done({"first": "Bob", "paid": [], "attempt": 0})


@pytest.mark.parametrize("version", [0, 2, 3])
def test_an_upcaster_is_of_an_earlier_version(version: int) -> None:
    with pytest.raises(DefinitionError):
        second(upcasts=False).upcast(version, "Order")(order)


def test_data_have_one_upcaster_for_each_version() -> None:
    with pytest.raises(DefinitionError, match="already"):
        second().upcast(1, "Order")(order)


def test_the_log_of_an_older_version_is_replayed_by_a_newer_one(world: World, later: World) -> None:
    old, new = first(), second()
    world.store.start(old, "o", Next("hoard", ADA))
    world.store.signal(old, "o", V1.Paid(1))
    drive(world, old, jump=False)
    later.store.signal(new, "o", V2.Paid(2, "USD"))
    drive(world, new)

    then = later.store.state_at(new, "o", 1)
    assert then.state == Await(V2.Paid, V2.Order("Ada", "Byron"), then="hoard")
    assert audit.fsck(world.store.log(new, "o"), Registry([new])).findings == []
