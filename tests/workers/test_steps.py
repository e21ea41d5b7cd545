"""Flows of durable steps on Postgres and Celery: webhooks, kills, and many at once."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from examples.checkout import Order, PaymentConfirmed, checkout
from fsm_core import MachineStatus
from fsm_core.steps import Await, Done, Next
from tests.waiting import eventually
from tests.workers.conftest import Cluster
from tests.workers.flows import Work, fan_out, held, slow, whole
from tests.workers.jobs import notes
from workers.lease import Lease
from workers.settings import Settings


def test_the_checkout_with_a_webhook_that_comes_twice_at_once(cluster: Cluster) -> None:
    """One of the two is the duplicate; the carrier is away twice, and the handler replays."""
    cluster.env["FSM_MACHINES"] = "examples.checkout:checkout"
    cluster.relay()
    cluster.worker(queues="checkout")
    cluster.store.start(checkout, "order:42", Next("start", Order(42)))
    parked = "SELECT 1 FROM fsm.machines WHERE state_name = 'Await'"
    eventually(lambda: cluster.ask(parked), timeout=20, what="it waits for its payment")
    assert isinstance(cluster.store.get(checkout, "order:42").state, Await)

    together = threading.Barrier(2)

    def webhook(_: int) -> bool:
        together.wait()
        return cluster.store.signal(checkout, "order:42", PaymentConfirmed(100), dedup_key="evt-7").duplicate

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(webhook, range(2))) == [False, True]
    cluster.settled()

    end = cluster.store.get(checkout, "order:42")
    assert (end.state, end.status) == (Done({"shipped": True}), MachineStatus.DONE)
    names = Counter(entry.name for entry in cluster.store.history(checkout, "order:42"))
    assert names == {"Next": 3, "Await": 1, "PaymentConfirmed": 1, "Replay": 2, "Done": 1}


def test_a_worker_killed_in_mid_step_costs_one_run_and_asks_nobody(cluster: Cluster) -> None:
    """The step runs again from its beginning, under the same idempotency key, and knows that it was tried."""
    cluster.env["FSM_MACHINES"] = "tests.workers.flows:slow"
    cluster.relay()
    cluster.worker("killed")
    cluster.store.start(slow, "k", Next(held, Work("gate")))
    eventually(lambda: len(notes(cluster.notes)) == 1, timeout=20, what="the step is at work")

    cluster.kill("killed")
    cluster.open("gate")
    cluster.worker("second")
    cluster.settled(timeout=40)

    first, second = notes(cluster.notes)
    assert (first.split()[1], second.split()[1]) == ("0", "1")
    assert first.split()[2] == second.split()[2]
    assert cluster.store.get(slow, "k").state == Done({"was": "tried 1"})


def test_fifty_flows_gather_at_once(cluster: Cluster) -> None:
    """200 children; every end is in its parent's log once."""
    cluster.env["FSM_MACHINES"] = "tests.workers.flows:whole tests.workers.flows:part"
    cluster.relay()
    for name in ("one", "two"):
        cluster.worker(name, queues="wholes,parts", slots=8)
    for n in range(50):
        cluster.store.start(whole, n, Next(fan_out, Work(parts=4)))

    ended = "SELECT 1 FROM fsm.machines WHERE fsm = 'whole' AND status = 'done' HAVING count(*) = 50"
    eventually(lambda: cluster.ask(ended), timeout=60, what="all have ended")
    cluster.settled()

    for n in range(50):
        assert cluster.store.get(whole, n).state == Done({"sum": 6})
        told = Counter(
            str(entry.payload["key"])
            for entry in cluster.store.history(whole, n)
            if entry.name.startswith("ChildEnded")
        )
        assert told == {f"{n}/1.{k}": 1 for k in range(4)}


def test_workers_that_look_alike_have_ids_of_their_own() -> None:
    """Race 16: host and pid are those of the neighbour in another container."""
    nowhere = Settings("postgresql://nobody@127.0.0.1:1/nowhere")
    ids = {Lease(nowhere, kind="node", queues={}, known={}).id for _ in range(2)}
    assert len(ids) == 2
