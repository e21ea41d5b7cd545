"""A machine of a newer version reads what an older one wrote: states, held events, actions, results and timers."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from fsm_core import After, Effects, Failed, Machine, MachineStatus, To
from fsm_core.errors import InvalidPayload, UnknownMachine, UnknownType
from tests.store.conformance.conftest import MakeWorld
from tests.store.courier import deliver


class V1:
    @dataclass(frozen=True)
    class Idle:
        name: str

    @dataclass(frozen=True)
    class Charging:
        cents: int

    @dataclass(frozen=True)
    class Over:
        pass

    @dataclass(frozen=True)
    class Pay:
        cents: int

    @dataclass(frozen=True)
    class Note:
        text: str

    @dataclass(frozen=True)
    class Charge:
        cents: int


class V2:
    @dataclass(frozen=True)
    class Idle:
        first: str
        last: str

    @dataclass(frozen=True)
    class Billing:
        cents: int
        currency: str
        notes: tuple[str, ...] = ()

    @dataclass(frozen=True)
    class Over:
        pass

    @dataclass(frozen=True)
    class Pay:
        cents: int
        currency: str

    @dataclass(frozen=True)
    class Remark:
        text: str

    @dataclass(frozen=True)
    class Bill:
        cents: int
        currency: str


@dataclass(frozen=True)
class Paid:
    receipt: str


def first() -> Machine[Any, Any, Any]:
    till = Machine(
        "till",
        states=V1.Idle | V1.Charging | V1.Over,
        events=V1.Pay | V1.Note | Paid | Failed[V1.Charge],
        actions=V1.Charge,
        initial=V1.Idle("Ada Byron"),
        final=V1.Over,
        unhandled="defer",
    )

    @till.on
    def pay(_state: V1.Idle, event: V1.Pay) -> To[V1.Charging, V1.Charge | After]:
        return V1.Charging(event.cents), [V1.Charge(event.cents), After(1000, V1.Note("hurry"), "hurry")]

    @till.on
    def paid(_state: V1.Charging, _event: Paid) -> V1.Over:
        return V1.Over()

    @till.timeout(after=timedelta(hours=1))
    def late(_state: V1.Charging) -> V1.Over:
        return V1.Over()

    return till


def second() -> Machine[Any, Any, Any]:
    till = Machine(
        "till",
        states=V2.Idle | V2.Billing | V2.Over,
        events=V2.Pay | V2.Remark | Paid | Failed[V2.Bill],
        actions=V2.Bill,
        initial=V2.Idle("Ada", "Byron"),
        final=V2.Over,
        unhandled="defer",
        version=2,
    )

    @till.on
    def pay(_state: V2.Idle, event: V2.Pay) -> To[V2.Billing, V2.Bill]:
        return V2.Billing(event.cents, event.currency), [V2.Bill(event.cents, event.currency)]

    @till.on
    def remark(state: V2.Billing, event: V2.Remark) -> V2.Billing:
        return V2.Billing(state.cents, state.currency, (*state.notes, event.text))

    @till.on
    def paid(_state: V2.Billing, _event: Paid | Failed[V2.Bill]) -> V2.Over:
        return V2.Over()

    @till.timeout(after=timedelta(hours=1))
    def late(_state: V2.Billing) -> V2.Over:
        return V2.Over()

    @till.upcast(1, "Idle")
    def idle(old: V1.Idle) -> V2.Idle:
        return V2.Idle(*old.name.split(" ", 1))

    @till.upcast(1, "Charging")
    def charging(old: V1.Charging) -> V2.Billing:
        return V2.Billing(old.cents, "EUR")

    @till.upcast(1, "Note")
    def note(old: V1.Note) -> V2.Remark:
        return V2.Remark(old.text)

    @till.upcast(1, "Pay")
    def old_pay(old: V1.Pay) -> V2.Pay:
        return V2.Pay(old.cents, "EUR")

    @till.upcast(1, "Charge")
    def charge(old: V1.Charge) -> V2.Bill:
        return V2.Bill(old.cents, "EUR")

    return till


def row(world: Any) -> dict[str, Any]:
    (found,) = world.contents()["machines"]
    return found


def test_a_decision_upcasts_the_state_and_says_so(make_world: MakeWorld) -> None:
    """The row takes the new version with the event; where a replay by the new code begins is kept."""
    old, new = first(), second()
    make_world().store.start(old, "a")
    world = make_world(machines=(new,))
    assert world.store.get(new, "a").state == V2.Idle("Ada", "Byron")
    assert row(world)["version"] == 1  # to look is not to write

    after = world.store.advance(new, "a", V2.Pay(5, "GBP"))

    assert (after.state, after.version, after.seq) == (V2.Billing(5, "GBP"), 2, 1)
    assert (row(world)["version"], row(world)["state_name"]) == (2, "Billing")
    assert world.store.state_at(new, "a", 0).state == V2.Idle("Ada", "Byron")
    assert world.store.state_at(new, "a", 1).state == V2.Billing(5, "GBP")


def test_an_event_that_is_held_is_upcast_when_it_is_taken(make_world: MakeWorld) -> None:
    old, new = first(), second()
    before = make_world().store
    before.start(old, "a")
    before.advance(old, "a", V1.Note("early"))
    world = make_world(machines=(new,))

    world.store.advance(new, "a", V2.Pay(5, "GBP"))

    assert world.store.get(new, "a").state == V2.Billing(5, "GBP", ("early",))
    names = [(e.name, e.payload) for e in world.store.history(new, "a")[2:]]
    assert names == [("Remark", {"text": "early"})]


def test_timers_of_the_older_version_fire_and_end_under_the_newer(make_world: MakeWorld) -> None:
    """One brings an event of the old shape; the timeout of a renamed state follows it, and ends when it is left."""
    old, new = first(), second()
    before = make_world()
    before.store.start(old, "a")
    before.store.advance(old, "a", V1.Pay(5))
    before.change_actions(1, run_at=before.store.get(old, "a").created_at)
    world = make_world(machines=(new,))

    deliver(world, new)

    assert world.store.get(new, "a").state == V2.Billing(5, "EUR", ("hurry",))
    timers = {a["idx"]: (a["timer"], str(a["status"])) for a in world.contents()["actions"]}
    assert timers[2] == ("state:Billing", "pending")
    world.store.advance(new, "a", Paid("r"))
    assert {str(a.status) for a in world.store.actions() if a.name == "Timeout"} == {"cancelled"}


def test_an_old_timeout_ends_a_renamed_state(make_world: MakeWorld) -> None:
    old, new = first(), second()
    before = make_world()
    before.store.start(old, "a")
    before.store.advance(old, "a", V1.Pay(5))
    before.change_actions(2, run_at=before.store.get(old, "a").created_at)
    world = make_world(machines=(new,))

    deliver(world, new)

    now = world.store.get(new, "a")
    assert (now.state, now.status, now.version) == (V2.Over(), MachineStatus.DONE, 2)


def test_an_old_action_runs_in_its_new_shape() -> None:
    """In memory, where effects run inline; with Postgres the worker reads by the same two functions."""
    from fsm_core.memory import MemoryStore

    old, new = first(), second()
    store, seen = MemoryStore(), []
    store.start(old, "a")
    store.advance(old, "a", V1.Pay(5))
    effects = Effects(new)

    @effects.act
    def bill(action: V2.Bill) -> Paid:
        seen.append(action)
        return Paid("r1")

    store.reopen(effects).drain()

    assert seen == [V2.Bill(5, "EUR")]
    assert store.reopen(new).get(new, "a").state == V2.Over()


def test_a_failure_carries_the_action_in_its_new_shape() -> None:
    from fsm_core import Permanent
    from fsm_core.memory import MemoryStore

    old, new = first(), second()
    store = MemoryStore()
    store.start(old, "a")
    store.advance(old, "a", V1.Pay(5))
    effects = Effects(new)

    @effects.act
    def bill(action: V2.Bill) -> None:
        raise Permanent("no")

    store.reopen(effects).drain()

    last = store.history("till", "a")[-1]
    assert (last.name, last.payload["action"]) == ("Failed[Bill]", {"cents": 5, "currency": "EUR"})


def test_the_very_version_is_used_where_it_is_registered(make_world: MakeWorld) -> None:
    """Old machines may finish on old code, beside the new."""
    old, new = first(), second()
    world = make_world(machines=(old, new))
    world.store.start(old, "a")

    assert world.store.advance(old, "a", V1.Pay(5)).version == 1
    with pytest.raises(UnknownType):
        world.store.advance(new, "a", V2.Pay(5, "GBP"))
    assert row(world)["version"] == 1


def test_nobody_reads_a_version_that_no_machine_reaches_back_to(make_world: MakeWorld) -> None:
    plain = Machine("till", states=V2.Over, events=Paid, version=2)
    make_world().store.start(first(), "a")
    world = make_world(machines=(plain,))
    before = world.contents()

    for call in (lambda: world.store.get(plain, "a"), lambda: world.store.advance(plain, "a", Paid("r"))):
        with pytest.raises(UnknownMachine):
            call()
    assert world.contents() == before


def test_an_upcaster_that_raises_is_one_clear_error(make_world: MakeWorld) -> None:
    make_world().store.start(first(), "a", V1.Idle("Plato"))
    new = second()
    world = make_world(machines=(new,))
    before = world.contents()

    with pytest.raises(InvalidPayload, match=r"could not be upcast by .*idle"):
        world.store.advance(new, "a", V2.Pay(1, "EUR"))

    assert world.contents() == before


def test_a_version_without_changes_of_shape_says_since(make_world: MakeWorld) -> None:
    old = Machine("till", states=V1.Over | V1.Idle, events=V1.Pay, initial=V1.Over())
    new = Machine("till", states=V1.Over | V1.Idle, events=V1.Pay, initial=V1.Over(), version=2, since=1)

    @new.on
    def again(_state: V1.Over, _event: V1.Pay) -> V1.Idle:
        return V1.Idle("x")

    make_world().store.start(old, "a")

    assert make_world(machines=(new,)).store.advance(new, "a", V1.Pay(1)).version == 2
