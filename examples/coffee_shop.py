"""A loyalty card: points for money off an order, which the shop's backend must confirm, one request after another.

Source: the `coffee_shop` example of FASM and PHASM. Run it, without any server: `python examples/coffee_shop.py`.
"""

import sys
from collections.abc import Callable

from msgspec import Struct, structs

from fsm_core import Effects, Machine, NotDone, Rejected, To
from fsm_core.memory import MemoryStore


class Ordering(Struct, frozen=True):
    points: int
    total: int
    redemptions: int = 0


class Redeeming(Struct, frozen=True):  # it has no edge for another Redeem: one at most is under way
    order: Ordering
    points: int


class Redeem(Struct, frozen=True):
    points: int


class CancelOrder(Struct, frozen=True): ...


class Redeemed(Struct, frozen=True):
    id: int


class AskBackend(Struct, frozen=True):
    id: int
    points: int


class GiveBack(Struct, frozen=True):
    id: int


Event = Redeem | CancelOrder | Redeemed
MEANT = {"waits-for-ever": "the guest has time", "unhandled-failure": "needs a person at the counter"}
Action = AskBackend | GiveBack
card = Machine("card", states=Ordering | Redeeming, events=Event, actions=Action, ordered=True, accept=MEANT)


@card.on
def redeem(state: Ordering, event: Redeem) -> To[Redeeming, AskBackend]:
    if event.points > state.points:
        raise Rejected(f"{event.points} points asked for, {state.points} there")
    order = structs.replace(state, redemptions=state.redemptions + 1)
    return Redeeming(order, event.points), [AskBackend(order.redemptions, event.points)]


@card.on
def redeemed(state: Redeeming, event: Redeemed) -> Ordering:
    if event.id != state.order.redemptions:
        raise Rejected(f"redemption {event.id} was given up")
    points, total = state.order.points - state.points, state.order.total - 5 * state.points
    return Ordering(points, max(total, 0), state.order.redemptions)


@card.on
def cancel(state: Redeeming, _event: CancelOrder) -> To[Ordering, GiveBack]:
    return state.order, [GiveBack(state.order.redemptions)]


backend: dict[int, int] = {}
meanwhile: list[Callable[[], object]] = []
effects = Effects(card)


@effects.act
def ask(action: AskBackend) -> Redeemed:
    backend[action.id] = action.points
    while meanwhile:
        meanwhile.pop()()
    return Redeemed(action.id)


@effects.probe
def asked(action: AskBackend) -> Redeemed | NotDone:
    print(f"was redemption {action.id} done?", action.id in backend)
    return Redeemed(action.id) if action.id in backend else NotDone()


@effects.act
def give_back(action: GiveBack) -> None:
    backend.pop(action.id, None)


if __name__ == "__main__":
    store = MemoryStore(effects)
    store.start(card, "ann", Ordering(points=250, total=1650))
    store.advance(card, "ann", Redeem(100))
    store.drain()
    try:
        store.advance(card, "ann", Redeem(200))
    except Rejected as refusal:
        print(store.get(card, "ann").state, "stays:", refusal)
    store.advance(card, "ann", Redeem(100))
    meanwhile.append(sys.exit)  # the worker dies after the backend has said yes
    try:
        store.drain()
    except SystemExit:
        print("power cut while", store.actions(status="running")[0].name, "runs")
    store.drain(jump=True)  # the next one asks the probe, and does not redeem again
    print(store.get(card, "ann").state)
    store.advance(card, "ann", Redeem(50))
    meanwhile.append(lambda: store.advance(card, "ann", CancelOrder()))  # the answer comes too late
    store.drain()
    print(store.actions(action="AskBackend")[-1].note)
    assert (store.get(card, "ann").state, backend) == (Ordering(50, 650, 3), {1: 100, 2: 100})
