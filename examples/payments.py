"""A balance that many payments draw on while their charges are under way.

The amount is reserved when a payment is asked for, not deducted when its result comes: else two payments under way see
the same balance, and overdraw it. Source: the PaymentSystem of FASM and PHASM, which deducts on the result.
Run it, without any server: `python examples/payments.py`.
"""

from msgspec import Struct
from msgspec.structs import replace
from tenacity import wait_fixed

from fsm_core import Attempt, Effects, Failed, Machine, Rejected, Retry, To, Untracked
from fsm_core.memory import MemoryStore


class Payment(Struct, frozen=True):
    id: int
    user: str
    amount: int


class Account(Struct, frozen=True):
    """`balance` is what is free to be spent; what is reserved for `pending` payments is not in it."""

    balance: int
    pending: tuple[Payment, ...] = ()
    next_id: int = 1

    def without(self, payment_id: int) -> tuple["Account", Payment]:
        """The account and the payment. A result that comes twice finds none the second time."""
        for payment in self.pending:
            if payment.id == payment_id:
                return replace(self, pending=tuple(p for p in self.pending if p != payment)), payment
        raise Rejected(f"payment {payment_id} is not pending")


class Process(Struct, frozen=True):
    user: str
    amount: int


class Succeeded(Struct, frozen=True):
    id: int


class Charge(Struct, frozen=True):
    id: int
    user: str
    amount: int


class Notify(Struct, frozen=True):
    text: str


class InsufficientFunds(Rejected): ...


Event = Process | Succeeded | Failed[Charge]
payments = Machine("payments", states=Account, events=Event, actions=Charge | Untracked[Notify])


@payments.on
def process(state: Account, event: Process) -> To[Account, Charge]:
    if event.amount > state.balance:
        raise InsufficientFunds(f"{event.user} asks for {event.amount}, {state.balance} is free")
    payment = Payment(state.next_id, event.user, event.amount)
    reserved = Account(state.balance - event.amount, (*state.pending, payment), state.next_id + 1)
    return reserved, [Charge(payment.id, payment.user, payment.amount)]


@payments.on
def succeeded(state: Account, event: Succeeded) -> To[Account, Notify]:
    account, payment = state.without(event.id)
    return account, [Notify(f"{payment.user} has paid {payment.amount}")]


@payments.on
def failed(state: Account, event: Failed[Charge]) -> To[Account, Notify]:
    account, payment = state.without(event.action.id)
    refunded = replace(account, balance=account.balance + payment.amount)
    return refunded, [Notify(f"{payment.user} has not paid: {event.error}, after {event.attempts} attempts")]


charged: dict[str, int] = {}
effects = Effects(payments)


@effects.act(retry=Retry(max_attempts=3, wait=wait_fixed(60)))
def charge(action: Charge, attempt: Attempt[None]) -> Succeeded:
    if action.user == "mallory" or attempt.number == 1:
        raise ConnectionError("no answer")
    charged[attempt.idempotency_key] = action.amount
    return Succeeded(action.id)


@effects.act
def notify(action: Notify) -> None:
    print(action.text)


def main() -> None:
    store = MemoryStore(effects)
    store.start(payments, "shop", Account(100))
    for user, amount in (("ann", 60), ("bob", 60), ("bob", 30), ("mallory", 5)):
        try:
            store.advance(payments, "shop", Process(user, amount))
        except InsufficientFunds as refusal:
            print(refusal)
    assert store.get(payments, "shop").state.balance == 5

    store.drain(jump=True)  # through all retries
    print(store.get(payments, "shop").state)
    assert store.get(payments, "shop").state == Account(10, (), 4)
    assert list(charged.values()) == [60, 30]


if __name__ == "__main__":
    main()
