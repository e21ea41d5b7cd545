"""Machines that bear and tell each other, with effects: a trip books legs; a desk hears of it; a till that has a second version."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from fsm_core import (
    Attempt,
    CancelChildren,
    Change,
    ChildEnded,
    Context,
    Effects,
    Failed,
    Join,
    Machine,
    Send,
    Spawn,
    To,
)
from tests.store.conformance.test_versions import V2, Paid, first, second
from tests.waiting import eventually
from tests.workers.jobs import note


@dataclass(frozen=True)
class Asking:
    place: str


@dataclass(frozen=True)
class Booked:
    place: str


@dataclass(frozen=True)
class Refused:
    place: str


@dataclass(frozen=True)
class Offered:
    pass


@dataclass(frozen=True)
class Sorry:
    pass


@dataclass(frozen=True)
class Ask:
    place: str


leg = Machine(
    "leg",
    states=Asking | Booked | Refused,
    events=Offered | Sorry | Failed[Ask],
    actions=Ask,
    final=Booked | Refused,
    queue="legs",
)


@leg.enter
def begin(state: Asking) -> list[Ask]:
    return [Ask(state.place)]


@leg.on
def offered(state: Asking, _event: Offered) -> Booked:
    return Booked(state.place)


@leg.on
def sorry(state: Asking, _event: Sorry | Failed[Ask]) -> Refused:
    return Refused(state.place)


leg_effects = Effects(leg)


@leg_effects.act
def ask(action: Ask, attempt: Attempt[None]) -> Offered | Sorry:
    """`full` is; `late...` answers when its gate is open."""
    note(f"ask {action.place} {attempt.number}")
    if action.place.startswith("late"):
        eventually(lambda: gate(action.place).exists(), timeout=60, what=f"gate {action.place}")
    return Sorry() if action.place == "full" else Offered()


@dataclass(frozen=True)
class Heard:
    trips: tuple[str, ...] = ()


@dataclass(frozen=True)
class Going:
    key: str


desk = Machine("desk", states=Heard, events=Going, initial=Heard(), queue="desks")


@desk.on
def hear(state: Heard, event: Going) -> Heard:
    return Heard((*state.trips, event.key))


@dataclass(frozen=True)
class Planning:
    pass


@dataclass(frozen=True)
class Booking:
    join: Join


@dataclass(frozen=True)
class Packed:
    done: tuple[str, ...]


@dataclass(frozen=True)
class Off:
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Book:
    places: tuple[str, ...]
    need: int


Ends = ChildEnded[Booked | Refused]

trip = Machine(
    "trip",
    states=Planning | Booking | Packed | Off,
    events=Book | Ends | Failed[Spawn],
    initial=Planning(),
    final=Packed | Off,
    queue="trips",
)


@trip.on
def book(_state: Planning, event: Book, ctx: Context) -> To[Booking, Spawn]:
    legs = [Spawn(leg, f"{ctx.key}-{place}", Asking(place)) for place in event.places]
    return Booking(Join.of(event.need, legs)), legs


@trip.on
def ended(state: Booking, event: Ends, ctx: Context) -> To[Booking | Packed | Off, CancelChildren | Send]:
    if event.key.endswith("-late hold"):  # the test kills the worker while it decides this
        note(f"deciding {event.key}")
        eventually(lambda: gate("decide").exists(), timeout=60, what="gate decide")
    return judged(Booking(state.join.heard(event, good=isinstance(event.state, Booked))), ctx.key)


@trip.on
def unborn(
    state: Booking, event: Failed[Spawn], ctx: Context
) -> To[Booking | Packed | Off, CancelChildren | Send]:
    return judged(replace(state, join=state.join.heard(event)), ctx.key)


def judged(state: Booking, key: str) -> To[Booking | Packed | Off, CancelChildren | Send]:
    if state.join.met:
        return Packed(state.join.done), [CancelChildren(), Send(desk, "front", Going(key))]
    if state.join.lost:
        return Off(state.join.failed), [CancelChildren()]
    return state


till = first()
later = second()
till_effects = Effects(later)


@till_effects.act
def bill(action: V2.Bill) -> Paid:
    note(f"bill {action.cents} {action.currency}")
    return Paid("r")


@dataclass(frozen=True)
class Meter:
    value: int = 0


@dataclass(frozen=True)
class Read:
    value: int


@dataclass(frozen=True)
class Count:
    value: int


readings = sa.Table(
    "readings", sa.MetaData(), sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Integer)
)
meter = Machine("meter", states=Meter, events=Read | Count, actions=Read, initial=Meter(), queue="meters")


@meter.on
def read(state: Meter, event: Read) -> To[Meter, Read]:
    return state, [event]


@meter.on
def count(state: Meter, event: Count) -> Meter:
    return Meter(state.value + event.value)


@meter.project
def keep(change: Change[Meter, Read | Count]) -> list[sa.Executable]:
    row = {"key": change.key, "value": change.after.value}
    return [insert(readings).values(row).on_conflict_do_update(index_elements=["key"], set_=row)]


meter_effects = Effects(meter)


@meter_effects.act
def measure(action: Read) -> Count:
    return Count(action.value)


def gate(name: str) -> Path:
    return Path(f"{os.environ['JOBS_FILE']}.{name}")
