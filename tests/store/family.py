"""Machines that bear each other: a trip books legs, each a machine of its own; and two that talk."""

from dataclasses import dataclass, replace
from datetime import timedelta

from fsm_core import CancelChildren, ChildEnded, Context, Failed, Join, Machine, Send, Spawn, To


@dataclass(frozen=True)
class Open:
    place: str


@dataclass(frozen=True)
class Booked:
    place: str
    price: int


@dataclass(frozen=True)
class Refused:
    place: str


@dataclass(frozen=True)
class Confirm:
    price: int


@dataclass(frozen=True)
class Refuse:
    pass


leg = Machine(
    "leg", states=Open | Booked | Refused, events=Confirm | Refuse, final=Booked | Refused, queue="legs"
)


@leg.on
def confirm(state: Open, event: Confirm) -> Booked:
    return Booked(state.place, event.price)


@leg.on
def refuse(state: Open, _event: Refuse) -> Refused:
    return Refused(state.place)


@dataclass(frozen=True)
class Planning:
    pass


@dataclass(frozen=True)
class Booking:
    join: Join
    price: int = 0


@dataclass(frozen=True)
class Going:
    price: int
    legs: tuple[str, ...]


@dataclass(frozen=True)
class Off:
    why: str


@dataclass(frozen=True)
class Book:
    places: tuple[str, ...]
    need: int = 0
    keys: tuple[str, ...] = ()


trip = Machine(
    "trip",
    states=Planning | Booking | Going | Off,
    events=Book | ChildEnded[Booked | Refused] | Failed[Spawn],
    initial=Planning(),
    final=Going | Off,
    queue="trips",
)


@trip.on
def book(_state: Planning, event: Book, ctx: Context) -> To[Booking, Spawn]:
    keys = event.keys or tuple(f"{ctx.key}-{place}" for place in event.places)
    legs = [Spawn(leg, key, Open(place)) for key, place in zip(keys, event.places, strict=True)]
    return Booking(Join.of(event.need or len(legs), legs)), legs


@trip.on
def ended(state: Booking, event: ChildEnded[Booked | Refused]) -> To[Booking | Going | Off, CancelChildren]:
    price = event.state.price if isinstance(event.state, Booked) else 0
    return judged(replace(state, join=state.join.heard(event, good=price > 0), price=state.price + price))


@trip.on
def unborn(state: Booking, event: Failed[Spawn]) -> To[Booking | Going | Off, CancelChildren]:
    return judged(replace(state, join=state.join.heard(event)))


@trip.timeout(after=timedelta(days=1))
def late(_state: Booking) -> To[Off, CancelChildren]:
    return Off("late"), [CancelChildren()]


def judged(state: Booking) -> To[Booking | Going | Off, CancelChildren]:
    if state.join.met:
        return Going(state.price, state.join.done), [CancelChildren()]
    if state.join.lost:
        return Off("too few"), [CancelChildren()]
    return state


@dataclass(frozen=True)
class Count:
    heard: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    pass


@dataclass(frozen=True)
class Say:
    text: str
    to: str
    by_name: bool = False


@dataclass(frozen=True)
class Hear:
    text: str


@dataclass(frozen=True)
class Leave:
    pass


talker = Machine("talker", states=Count | Done, events=Say | Hear | Leave, initial=Count(), final=Done)


@talker.on
def say(state: Count, event: Say) -> To[Count, Send]:
    other = "talker" if event.by_name else talker
    return state, [Send(other, event.to, Hear(event.text))]


@talker.on
def hear(state: Count, event: Hear) -> Count:
    return Count((*state.heard, event.text))


@talker.on
def leave(_state: Count, _event: Leave) -> Done:
    return Done()


@dataclass(frozen=True)
class Shell:
    depth: int


@dataclass(frozen=True)
class Cracked:
    pass


@dataclass(frozen=True)
class Crack:
    pass


doll = Machine("doll", states=Shell | Cracked, events=Crack, final=Cracked)


@doll.enter
def inner(state: Shell, ctx: Context) -> list[Spawn]:
    return [Spawn(doll, f"{ctx.key}.", Shell(state.depth - 1))] if state.depth else []


@doll.on
def crack(_state: Shell, _event: Crack) -> Cracked:
    return Cracked()
