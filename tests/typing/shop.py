"""Two machines for the type checkers, with a store and effects."""

from dataclasses import dataclass

from fsm_core import Attempt, Context, Effects, Failed, Machine, Rejected, To, Untracked


@dataclass(frozen=True)
class New:
    total: int


@dataclass(frozen=True)
class Charging:
    total: int


@dataclass(frozen=True)
class Paid:
    receipt: str


@dataclass(frozen=True)
class Declined:
    reason: str


@dataclass(frozen=True)
class Pay:
    card: str


@dataclass(frozen=True)
class Charged:
    receipt: str


@dataclass(frozen=True)
class Charge:
    card: str
    amount: int


@dataclass(frozen=True)
class Tell:
    text: str


@dataclass(frozen=True)
class Off:
    pass


@dataclass(frozen=True)
class Press:
    pass


class Payments:
    def charge(self, card: str, amount: int, key: str) -> str:
        return f"{card} {amount} {key}"


class Other:
    pass


State = New | Charging | Paid | Declined
Event = Pay | Charged | Failed[Charge]
Action = Charge | Untracked[Tell]

orders = Machine("orders", states=State, events=Event, actions=Action, final=Paid | Declined)
lamp = Machine("lamp", states=Off, events=Press, initial=Off())


@orders.on
def pay(state: New, event: Pay) -> To[Charging, Charge]:
    if state.total <= 0:
        raise Rejected("nothing to pay")
    return Charging(state.total), [Charge(event.card, state.total)]


@orders.on
def paid(state: Charging, event: Charged, ctx: Context) -> To[Paid, Tell]:
    return Paid(event.receipt), [Tell(f"paid at {ctx.now}")]


@orders.on
def declined(state: Charging, event: Failed[Charge]) -> Declined:
    return Declined(f"{event.action.card}: {event.error}")


@orders.otherwise
def unexpected(state: State, event: Event) -> To[State, Tell]:
    return state, [Tell(f"{type(event).__name__} in {type(state).__name__}")]


class Clients:
    def __enter__(self) -> Payments:
        return Payments()

    def __exit__(self, *error: object) -> None: ...


effects = Effects(orders, resources=Clients)


@effects.act(timeout=30)
async def charge(action: Charge, attempt: Attempt[Payments]) -> Charged:
    return Charged(attempt.resources.charge(action.card, action.amount, attempt.idempotency_key))
