"""`fsm signal`, and the other verbs on a flow of durable steps."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine

from examples.checkout import Order, PaymentConfirmed, checkout
from fsm_core.postgres import PostgresStore
from fsm_core.steps import Await, Next
from tests.cli.support import Fsm, Refuses
from tests.steps.drive import drive
from tests.store.world import PostgresWorld, plain

ROOT = Path(__file__).parents[2]


@pytest.fixture
def flows(
    fsm: Fsm, monkeypatch: pytest.MonkeyPatch, database_url: str, store: PostgresStore
) -> PostgresWorld:
    """The checkout is listed; its world, to run its steps."""
    monkeypatch.setenv("FSM_MACHINES", "examples.checkout:checkout tests.cli.machines:turnstile")
    monkeypatch.setattr("examples.checkout.carrier", {"down": 0})
    return PostgresWorld(store, plain(database_url))


def test_a_signal_is_taken_waits_or_comes_before_the_start(fsm: Fsm, flows: PostgresWorld) -> None:
    paid = ("signal", "checkout/o1", "PaymentConfirmed", '{"amount": 100}')

    assert fsm(*paid, "--dedup-key", "e1") == (0, "checkout/o1: PaymentConfirmed waits for its start\n", "")
    assert fsm("start", "checkout/o1", "Next", '{"step": "start", "state": {"order": 1}}').status == 0
    waits = "checkout/o1: PaymentConfirmed waits until it can be taken\n"
    assert fsm(*paid).out == waits
    assert fsm(*paid, "--dedup-key", "e1").out == waits.replace(
        "\n", " already (a duplicate; nothing changed)\n"
    )

    drive(flows, checkout)
    again = fsm(*paid, "--dedup-key", "e1")
    assert (
        again.out
        == "checkout/o1: PaymentConfirmed is taken as event 3 already (a duplicate; nothing changed)\n"
    )

    flows.store.start(checkout, "o2", Await(PaymentConfirmed, Order(2), then="await_pay"))
    answer = fsm("signal", "checkout/o2", "PaymentConfirmed", '{"amount": 5}', "--json").json
    assert answer == {
        "machine": "checkout", "key": "o2", "id": str(flows.store.get(checkout, "o2").id), "seq": 1, "held": False,
        "duplicate": False, "unborn": False,
    }  # fmt: skip


def test_what_it_waits_for_at_most_is_said(fsm: Fsm, flows: PostgresWorld) -> None:
    assert fsm("signal", "checkout/o1", "PaymentConfirmed", '{"amount": 1}', "--ttl", "90s").status == 0
    ((left,),) = flows.sql("SELECT expires_at - received_at FROM fsm.inbox")
    assert left.total_seconds() == 90


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["checkout", "PaymentConfirmed"], "NAME/KEY"),
        (["checkout/o1"], "EVENT"),
        (["checkout/o1", "PaymentConfirmed"], "amount"),
        (["checkout/o1", "PaymentConfirmed", '{"amount": 1, "x": 2}'], "no field x"),
        (["checkout/o1", "PaymentConfirmed", "[1]"], "object"),
        (["checkout/o1", "Nothing"], "Nothing"),
        (["checkout/o1", "Done"], "Done"),
        (["checkout/o1", "TimedOut"], "TimedOut"),
        (["nobody/o1", "PaymentConfirmed"], "nobody"),
        (["checkout/o1", "PaymentConfirmed", '{"amount": 1}', "--ttl", "soon"], "no span"),
        (["checkout/o1", "PaymentConfirmed", '{"amount": 1}', "--ttl", "0s"], "ttl"),
        (["checkout/o1", "PaymentConfirmed", '{"amount": 1}', "--dedup-key", ""], "dedup"),
    ],
)
def test_a_wrong_call_is_one_line(
    refuses: Refuses, flows: PostgresWorld, words: list[str], says: str
) -> None:
    assert says in refuses("signal", *words)


def test_one_that_has_ended_says_so(fsm: Fsm, refuses: Refuses, flows: PostgresWorld) -> None:
    flows.store.start(checkout, "o1", Next("ship", Order(1)))
    drive(flows, checkout)
    assert "done" in refuses("signal", "checkout/o1", "PaymentConfirmed", '{"amount": 1}')


@pytest.mark.parametrize(
    ("state", "payload"),
    [
        ("Next", '{"step": "nowhere", "state": {"order": 1}}'),
        ("Next", '{"step": "start", "state": {"order": "x"}}'),
        ("Next", '{"step": "start"}'),
        ("Await", '{"signals": ["PaymentConfirmed"], "state": {"order": 1}}'),
        ("Await", '{"signals": [], "state": {"order": 1}}'),
        ("Replay", '{"state": {"order": 1}}'),
        ("Gather", '{"children": [], "state": {"order": 1}, "then": "ship"}'),
    ],
)
def test_a_flow_is_started_where_it_can_go_on(
    refuses: Refuses, flows: PostgresWorld, state: str, payload: str
) -> None:
    refuses("start", "checkout/o1", state, payload)


def test_every_verb_that_looks_at_a_machine_looks_at_a_flow(
    fsm: Fsm, flows: PostgresWorld, engine: Engine
) -> None:
    """Started, shown, signalled, sent, replayed and checked from the shell alone."""
    assert fsm("check", "checkout").status == 0
    assert "s_Await -->" in fsm("graph", "checkout").out
    fsm("start", "checkout/o1", "Next", '{"step": "start", "state": {"order": 1}}')
    fsm("start", "checkout/o2", "Next", '{"step": "start", "state": {"order": 2}}')
    drive(flows, checkout)

    assert "Await" in fsm("show", "checkout/o1").out
    assert "PaymentConfirmed" in fsm("explain", "checkout/o1").out
    tried = fsm("send", "checkout/o1", "PaymentConfirmed", '{"amount": 9}', "--dry-run", "--json").json
    assert [action["name"] for action in tried["actions"]] == ["await_pay"]
    assert fsm("send", "checkout/o1", "PaymentConfirmed", '{"amount": 9}').status == 0
    drive(flows, checkout)

    shown = fsm("show", "checkout/o1", "--json").json
    assert (shown["status"], shown["state"]) == ("done", {"result": {"shipped": True}})
    events = fsm("history", "checkout/o1", "--json").json
    assert [event["name"] for event in events] == [
        "Next",
        "Next",
        "Await",
        "PaymentConfirmed",
        "Next",
        "Done",
    ]
    assert "linkStyle" in fsm("graph", "checkout/o1").out
    assert fsm("diff", "checkout/o1", "2", "3").status == 0
    assert fsm("fsck", "--json").json["findings"] == []
    assert fsm("check-upgrade").status == 0
    assert json.loads(fsm("machines", "--json").out)
