"""A trip that needs two of its legs within a day. Each leg is a machine of its own, which asks a carrier.

What the trip waits for is a value in its own state (`Join`), and the end of each leg is an event in its own log.
Run it, without any server: `python examples/trip.py`.
"""

from datetime import timedelta

from msgspec import Struct

from fsm_core import CancelChildren, ChildEnded, Context, Effects, Failed, Join, Machine, Permanent, Spawn, To
from fsm_core.memory import MemoryStore


class Asking(Struct, frozen=True):
    place: str


class Booked(Struct, frozen=True):
    place: str
    price: int


class SoldOut(Struct, frozen=True):
    place: str


class Ask(Struct, frozen=True):
    place: str


class Offered(Struct, frozen=True):
    price: int


Ends = Booked | SoldOut
leg = Machine("leg", states=Asking | Ends, events=Offered | Failed[Ask], actions=Ask, final=Ends)


@leg.enter
def ask(state: Asking) -> list[Ask]:
    return [Ask(state.place)]


@leg.on
def offered(state: Asking, event: Offered) -> Booked:
    return Booked(state.place, event.price)


@leg.on
def sold_out(state: Asking, _event: Failed[Ask]) -> SoldOut:
    return SoldOut(state.place)


class Planned(Struct, frozen=True):
    places: tuple[str, ...]


class Booking(Struct, frozen=True):
    join: Join


class Going(Struct, frozen=True):
    legs: tuple[str, ...]


class Off(Struct, frozen=True):
    why: str


class Go(Struct, frozen=True):
    pass


Ended = ChildEnded[Ends] | Failed[Spawn]
fine = {"waits-for-ever:Planned": "whoever plans it takes the time it takes"}
trip = Machine(
    "trip", states=Planned | Booking | Going | Off, events=Go | Ended, final=Going | Off, accept=fine
)


@trip.on
def go(state: Planned, _event: Go, ctx: Context) -> To[Booking, Spawn]:
    legs = [Spawn(leg, f"{ctx.key}-{place}", Asking(place)) for place in state.places]
    return Booking(Join.of(min(2, len(legs)), legs)), legs


@trip.on
def ended(state: Booking, event: Ended) -> To[Booking | Going | Off, CancelChildren]:
    join = state.join.heard(event, good=isinstance(event, ChildEnded) and isinstance(event.state, Booked))
    if join.met:
        return Going(join.done), [CancelChildren()]
    return (Off("too few legs"), [CancelChildren()]) if join.lost else Booking(join)


@trip.timeout(after=timedelta(days=1))
def late(_state: Booking) -> To[Off, CancelChildren]:
    return Off("it took too long"), [CancelChildren()]


effects = Effects(leg)


@effects.act
def inquire(action: Ask) -> Offered | None:
    if action.place == "atlantis":
        raise Permanent("nobody goes there")
    return None if action.place == "mars" else Offered(len(action.place))  # to Mars: no answer


if __name__ == "__main__":
    store = MemoryStore(effects, trip)
    for key, places in {"two": "rome atlantis oslo", "few": "rome atlantis", "slow": "rome mars"}.items():
        store.start(trip, key, Planned(tuple(places.split())))
        store.advance(trip, key, Go())
        store.drain()
        print(f"{key}: {store.get(trip, key).state}")
    store.drain(jump=True)
    print(f"a day later: {store.get(trip, 'slow').state}, its leg is {store.record(leg, 'slow-mars').status}")
