"""Machines for the stores' tests: orders (rejects), a desk (defers), and the door of the examples (ignores)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from fsm_core import Context, Failed, Machine, Rejected, Route, To, Untracked
from fsm_core.registry import AnyMachine


@dataclass(frozen=True)
class New:
    total: int = 0


@dataclass(frozen=True)
class Charging:
    total: int
    at: datetime
    id: UUID


@dataclass(frozen=True)
class Paid:
    receipt: str


@dataclass(frozen=True)
class Dropped:
    reason: str = ""


@dataclass(frozen=True)
class Pay:
    card: str = "card"


@dataclass(frozen=True)
class Charged:
    receipt: str


@dataclass(frozen=True)
class Drop:
    pass


@dataclass(frozen=True)
class Note:
    text: Any = ""


@dataclass(frozen=True)
class Charge:
    card: str
    amount: int


@dataclass(frozen=True)
class Tell:
    text: str


OrderState = New | Charging | Paid | Dropped
OrderEvent = Pay | Charged | Drop | Note | Failed[Charge]


class NothingToPay(Rejected):
    pass


def build(version: int = 1) -> AnyMachine:
    """The orders machine, as a value of its own."""
    orders = Machine(
        "orders",
        states=OrderState,
        events=OrderEvent,
        actions=Charge | Untracked[Tell],
        final=Paid | Dropped,
        version=version,
    )

    @orders.on
    def pay(state: New, event: Pay, ctx: Context) -> To[Charging, Charge]:
        if state.total <= 0:
            raise NothingToPay("nothing to pay")
        return Charging(state.total, ctx.now, ctx.uuid()), [Charge(event.card, state.total)]

    @orders.on
    def charged(state: Charging, event: Charged) -> To[Paid, Tell]:
        return Paid(event.receipt), [Tell("paid")]

    @orders.on
    def failed(state: Charging, event: Failed[Charge]) -> Dropped:
        return Dropped(event.error)

    @orders.on
    def drop(state: New | Charging, event: Drop) -> Dropped:
        return Dropped("by hand")

    @orders.on
    def note(state: New, event: Note) -> To[New, Charge]:
        return state, [Charge("note", n) for n in range(2)]

    @orders.route
    def where(action: Charge) -> Route:
        return Route(queue="money", priority=2, partition_key=action.card if action.card != "note" else None)

    return orders


orders = build()


@dataclass(frozen=True)
class Closed:
    served: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manned:
    served: tuple[str, ...] = ()


@dataclass(frozen=True)
class Over:
    served: tuple[str, ...] = ()


@dataclass(frozen=True)
class Open:
    pass


@dataclass(frozen=True)
class Close:
    pass


@dataclass(frozen=True)
class Serve:
    name: str


@dataclass(frozen=True)
class Retire:
    pass


desk = Machine(
    "desk",
    states=Closed | Manned | Over,
    events=Open | Close | Serve | Retire,
    actions=Tell,
    initial=Closed(),
    final=Over,
    unhandled="defer",
)


@desk.on
def open_(state: Closed, event: Open) -> Manned:
    return Manned(state.served)


@desk.on
def close(state: Manned, event: Close) -> Closed:
    return Closed(state.served)


@desk.on
def serve(state: Manned, event: Serve) -> To[Manned | Closed, Tell]:
    if event.name == "rude":
        raise Rejected("be\0 polite")
    served = (*state.served, event.name)
    return (Closed(served) if event.name == "last" else Manned(served)), [Tell(event.name)]


@desk.on
def retire(state: Closed | Manned, event: Retire) -> Over:
    return Over(state.served)
