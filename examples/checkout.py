"""A checkout as durable steps: it waits for its payment, which a webhook confirms twice, and ships.

Line by line the Checkout of gen_durable. Run it, without any server: `python examples/checkout.py`.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

from fsm_core.memory import MemoryStore
from fsm_core.steps import Await, Done, Next, Replay, StepContext, Steps, Stop


@dataclass(frozen=True)
class Order:
    order: int
    n: int = 0
    paid: int = 0


@dataclass(frozen=True)
class PaymentConfirmed:
    amount: int


class Unreachable(Exception):
    """The carrier does not answer."""


checkout = Steps("checkout", state=Order, signals=PaymentConfirmed, version=1, queue="checkout")
carrier = {"down": 2}


@checkout.step
def start(state: Order) -> Next[Order]:
    return Next(await_pay, replace(state, n=state.n + 1))


@checkout.step
def await_pay(state: Order, ctx: StepContext) -> Await[Order] | Next[Order]:
    confirmed = ctx.signal(PaymentConfirmed)
    if confirmed is None:
        return Await(PaymentConfirmed, state)
    return Next(ship, replace(state, paid=confirmed.amount))


@checkout.step
def ship(state: Order) -> Done:
    if carrier["down"]:
        carrier["down"] -= 1
        raise Unreachable(f"order {state.order}")
    return Done({"shipped": True})


@checkout.on_error
def handle(reason: Exception, state: Order, ctx: StepContext) -> Replay[Order] | Stop:
    return Replay(state, delay=timedelta(seconds=1 + ctx.attempt)) if ctx.attempt < 5 else Stop(str(reason))


def main() -> None:
    store = MemoryStore(checkout)
    store.start(checkout, "order:42", Next(start, Order(42)))
    store.drain()
    waiting = store.get(checkout, "order:42").state
    assert isinstance(waiting, Await)
    print("waits for", *waiting.signals)

    for _ in range(2):  # the webhook comes twice, as webhooks do
        receipt = store.signal(checkout, "order:42", PaymentConfirmed(100), dedup_key="evt-7")
        print("the webhook:", "a duplicate of" if receipt.duplicate else "taken as", f"event {receipt.seq}")
    store.drain(jump=True)

    end = store.get(checkout, "order:42")
    assert end.state == Done({"shipped": True})
    assert end.status == "done"
    for entry in store.history(checkout, "order:42"):
        print(entry.seq, entry.name, *[f"-> {action.name}" for action in entry.actions])

    store.start(checkout, "order:43", Next(ship, Order(43)))
    carrier["down"] = 99
    store.drain(jump=True)
    given_up = store.get(checkout, "order:43")
    assert (given_up.state, given_up.status) == (Stop("order 43"), "failed")
    print(given_up.state, given_up.status)


if __name__ == "__main__":
    main()
