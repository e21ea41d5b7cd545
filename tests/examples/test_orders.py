"""The order's edges, one by one, and its lives. No server, no clock."""

import pytest

from examples.orders import (
    Action,
    Cancelled,
    Charge,
    Charged,
    Charging,
    Declined,
    Event,
    New,
    Pay,
    Refund,
    Refused,
    Sent,
    Ship,
    Shipped,
    Shipping,
    State,
    Tell,
    orders,
)
from fsm_core import Failed, UnhandledEvent, advance, begin, replay

CHARGE, SHIP = Charge("4242", 42), Ship("1 Main St")
EDGES: list[tuple[State, Event, State, list[Action]]] = [
    (New(42, "1 Main St"), Pay("4242"), Charging("1 Main St"), [CHARGE]),
    (Charging("1 Main St"), Charged("r"), Shipping("r"), [SHIP]),
    (Charging("1 Main St"), Refused("no money"), Declined("no money"), [Tell("your order is declined")]),
    (
        Charging("1 Main St"),
        Failed(CHARGE, "503", 8),
        Cancelled("503"),
        [Refund(), Tell("your order is cancelled")],
    ),
    (Shipping("r"), Sent("p"), Shipped("r", "p"), [Tell("your order is shipped")]),
    (Shipping("r"), Failed(SHIP, "422", 1), Cancelled("422"), [Refund(), Tell("your order is cancelled")]),
]
ENDS: list[State] = [Shipped("r", "p"), Declined("no money"), Cancelled("422")]


@pytest.mark.parametrize(("before", "event", "after", "actions"), EDGES)
def test_an_edge(before: State, event: Event, after: State, actions: list[Action]) -> None:
    assert advance(orders, before, event) == (after, actions)


def test_these_are_all_the_edges() -> None:
    tested = {
        (type(before), event if isinstance(event, type) else orders.event_name(event))
        for before, event, *_ in EDGES
    }

    assert len(orders.edges) == len(tested) == len(EDGES)


def test_a_new_order_waits_for_its_payment() -> None:
    assert begin(orders, New(42, "1 Main St")) == (New(42, "1 Main St"), [])


def test_who_pays_twice_is_told_so() -> None:
    with pytest.raises(UnhandledEvent):
        replay(orders, New(42, "1 Main St"), [Pay("4242"), Pay("4242")])


@pytest.mark.parametrize("end", ENDS)
def test_an_ended_order_takes_nothing(end: State) -> None:
    assert orders.is_final(end)
    for event in (Pay("4242"), Charged("r"), Refused("no"), Sent("p"), Failed(CHARGE), Failed(SHIP)):
        with pytest.raises(UnhandledEvent):
            advance(orders, end, event)


def test_only_the_message_to_the_customer_may_be_lost() -> None:
    assert [orders.tracked(action) for action in (CHARGE, SHIP, Refund(), Tell("hello"))] == [
        True,
        True,
        True,
        False,
    ]
