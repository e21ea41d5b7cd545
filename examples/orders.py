"""An order that is paid and shipped, by services that say yes, say no, or say nothing at all.

The pure part, with msgspec's Structs where the door has dataclasses; the HTTP calls are in `examples/orders_effects.py`.
Run it, without any server: `python examples/orders.py`.
"""

from msgspec import Struct

from fsm_core import Failed, Machine, To, Untracked, replay


class New(Struct, frozen=True):
    total: int
    address: str


class Charging(Struct, frozen=True):
    address: str


class Shipping(Struct, frozen=True):
    receipt: str


class Shipped(Struct, frozen=True):
    receipt: str
    parcel: str


class Declined(Struct, frozen=True):
    reason: str


class Cancelled(Struct, frozen=True):
    reason: str


class Pay(Struct, frozen=True):
    card: str


class Charged(Struct, frozen=True):
    receipt: str


class Refused(Struct, frozen=True):
    reason: str


class Sent(Struct, frozen=True):
    parcel: str


class Charge(Struct, frozen=True):
    card: str
    total: int


class Ship(Struct, frozen=True):
    address: str


class Refund(Struct, frozen=True):
    """Give back what was charged for this order, if anything was: a lost answer may hide a charge."""


class Tell(Struct, frozen=True):
    message: str


State = New | Charging | Shipping | Shipped | Declined | Cancelled
Event = Pay | Charged | Refused | Sent | Failed[Charge] | Failed[Ship]
Action = Charge | Ship | Refund | Untracked[Tell]

# An event without an edge is refused, as a second Pay should be.
orders = Machine(
    "orders",
    states=State,
    events=Event,
    actions=Action,
    final=Shipped | Declined | Cancelled,
    accept={
        "waits-for-ever:New": "an order that nobody pays holds nothing",
        "unhandled-failure:Refund": "a refund that fails needs a person",
    },
)


@orders.on
def pay(state: New, event: Pay) -> To[Charging, Charge]:
    return Charging(state.address), [Charge(event.card, state.total)]


@orders.on
def charged(state: Charging, event: Charged) -> To[Shipping, Ship]:
    return Shipping(event.receipt), [Ship(state.address)]


@orders.on
def refused(_state: Charging, event: Refused) -> Declined:
    return Declined(event.reason)


@orders.on
def not_charged(_state: Charging, event: Failed[Charge]) -> To[Cancelled, Refund]:
    return Cancelled(event.error), [Refund()]


@orders.on
def sent(state: Shipping, event: Sent) -> Shipped:
    return Shipped(state.receipt, event.parcel)


@orders.on
def not_sent(_state: Shipping, event: Failed[Ship]) -> To[Cancelled, Refund]:
    return Cancelled(event.error), [Refund()]


@orders.enter
def tell(state: Shipped | Declined | Cancelled) -> list[Tell]:
    return [Tell(f"your order is {type(state).__name__.lower()}")]


if __name__ == "__main__":
    events: list[Event] = [Pay("4242"), Charged("receipt-1"), Sent("parcel-1")]
    state, actions = replay(orders, New(42, "1 Main St"), events)
    assert state == Shipped("receipt-1", "parcel-1")
    print(*actions, state, sep="\n")
