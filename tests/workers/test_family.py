"""Machines that bear, tell and cancel each other, with effects, in real processes that are killed, or know only some of them."""

import os
import signal
from collections import Counter
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from fsm_core import ActionStatus, MachineStatus
from fsm_core.postgres import PostgresStore
from tests.store.conformance.test_versions import V1, V2
from tests.waiting import eventually
from tests.workers.conftest import Cluster
from tests.workers.jobs import jobs, notes
from tests.workers.trips import (
    Asking,
    Book,
    Booked,
    Booking,
    Heard,
    Meter,
    Off,
    Packed,
    Read,
    Refused,
    desk,
    later,
    leg,
    meter,
    readings,
    till,
    trip,
)

HERE = "tests.workers.trips:"


def worker(cluster: Cluster, name: str, knows: str, queues: str, slots: int = 4) -> int:
    """A worker that knows these of the machines and effects of `trips.py`."""
    cluster.env["FSM_MACHINES"] = " ".join(f"{HERE}{each}" for each in knows.split())
    return cluster.worker(name, queues=queues, slots=slots)


def ends(cluster: Cluster, key: str) -> Counter[str]:
    """How often each child's end stands in the log of the trip."""
    return Counter(
        str(e.payload["key"]) for e in cluster.store.history(trip, key) if e.name.startswith("ChildEnded")
    )


def statuses(cluster: Cluster) -> dict[str, str]:
    return {r.key: r.status.value for r in cluster.store.machines("leg")}


def shown(cluster: Cluster, what: str, query: str, timeout: float = 20) -> object:
    try:
        return eventually(lambda: cluster.ask(query), timeout=timeout, what=what)
    except TimeoutError as error:
        error.add_note(cluster.picture())
        raise


def test_two_of_three_children_and_a_message(cluster: Cluster) -> None:
    """Their effects run in workers, the join counts them, what still runs is cancelled, and the desk is told."""
    cluster.relay()
    worker(cluster, "all", "leg_effects trip desk", "legs,trips,desks")
    cluster.store.start(desk, "front")
    cluster.store.start(trip, "t")

    cluster.store.advance(trip, "t", Book(("rome", "full", "oslo", "late one"), 2))
    shown(cluster, "the desk has heard", "SELECT state -> 'trips' ->> 0 FROM fsm.machines WHERE fsm = 'desk'")
    shown(cluster, "the last is cancelled", "SELECT 1 FROM fsm.machines WHERE status = 'cancelled'")
    cluster.open("late one")
    cluster.settled()

    now = cluster.store.get(trip, "t")
    assert isinstance(now.state, Packed)
    assert sorted(now.state.done) == ["leg/t-oslo", "leg/t-rome"]
    assert cluster.store.get(desk, "front").state == Heard(("t",))
    assert statuses(cluster) == {
        "t-rome": "done", "t-full": "done", "t-oslo": "done", "t-late one": "cancelled",
    }  # fmt: skip
    assert set(ends(cluster, "t").values()) == {1}


def test_a_cancel_goes_down_and_an_end_goes_up(cluster: Cluster) -> None:
    """A cancelled child is told of to its parent as one that failed; a cancelled parent takes the rest with it."""
    cluster.relay()
    worker(cluster, "all", "leg_effects trip", "legs,trips", slots=8)
    for key in ("t", "u"):
        cluster.store.start(trip, key)
        cluster.store.advance(trip, key, Book(("late x", "late y"), 2))
    eventually(lambda: len(notes(cluster.notes)) == 4, what="four effects run")

    cluster.store.cancel(leg, "t-late x", "no more")
    cluster.store.cancel(trip, "u")
    shown(
        cluster,
        "all are cancelled",
        "SELECT true FROM fsm.machines WHERE status = 'cancelled' HAVING count(*) = 5",
    )
    for gate in ("late x", "late y"):
        cluster.open(gate)
    cluster.settled()

    assert cluster.store.get(trip, "t").state == Off(("leg/t-late x",))
    heard = cluster.store.history(trip, "t")[2]
    assert (heard.name, heard.payload["error"]) == ("Failed[Spawn]", "cancelled: no more")
    assert set(statuses(cluster).values()) == {"cancelled"}
    assert isinstance(cluster.store.get(trip, "u").state, Booking)
    assert cluster.store.get(trip, "u").status is MachineStatus.CANCELLED
    assert cluster.store.get(leg, "u-late y").state == Asking("late y")


def test_a_kill_while_an_end_is_delivered_counts_no_child_twice(cluster: Cluster) -> None:
    """SIGKILL in the very transition that takes an end, when others have been committed before: each is in the log once."""
    cluster.relay()
    worker(cluster, "legs", "leg_effects", "legs")
    worker(cluster, "killed", "trip", "trips")
    cluster.store.start(desk, "front")
    cluster.store.start(trip, "t")
    places = ("a", "b", "c", "full", "late d", "late e", "late hold")
    cluster.store.advance(trip, "t", Book(places, 6))
    shown(cluster, "four ends are told", "SELECT 1 FROM fsm.machines WHERE key = 't' AND seq = 5")

    cluster.open("late hold")
    eventually(lambda: "deciding t-late hold" in notes(cluster.notes), timeout=20, what="it decides")
    for gate in ("late d", "late e"):
        cluster.open(gate)
    cluster.kill("killed")
    cluster.open("decide")
    worker(cluster, "second", "trip desk", "trips,desks")
    cluster.settled(timeout=40)

    assert ends(cluster, "t") == {f"t-{place}": 1 for place in places}
    state = cluster.store.get(trip, "t").state
    assert isinstance(state, Packed)
    assert len(state.done) == 6
    assert cluster.store.get(desk, "front").state == Heard(("t",))
    assert notes(cluster.notes).count("deciding t-late hold") == 2


def test_workers_that_each_know_their_own_machine_only(cluster: Cluster) -> None:
    """What reaches a worker that cannot read its target goes back and waits, longer each time; then another one takes it."""
    cluster.relay()
    pid = worker(cluster, "stranger", "leg_effects", "legs,trips,desks")
    cluster.store.start(desk, "front")
    cluster.store.start(trip, "t")
    cluster.store.advance(trip, "t", Book(("rome", "full"), 1))
    waits = """
        SELECT bool_and(run_at - published_at >= interval '1 s' AND attempt = 0) FROM fsm.actions
         WHERE name = 'ChildEnded' AND status = 'pending' AND note LIKE 'no worker here can apply it%' HAVING count(*) = 2"""
    assert shown(cluster, "both ends wait for a worker", waits) is True

    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not psutil.pid_exists(pid), timeout=20, what="the stranger has ended")
    worker(cluster, "trips", "trip", "trips")
    worker(cluster, "desks", "desk", "desks")
    actions = cluster.settled()

    assert cluster.store.get(trip, "t").state == Packed(("leg/t-rome",))
    assert cluster.store.get(desk, "front").state == Heard(("t",))
    assert {a.status for a in actions} == {ActionStatus.COMPLETED}
    assert [cluster.store.get(leg, f"t-{p}").state for p in ("rome", "full")] == [
        Booked("rome"),
        Refused("full"),
    ]


@pytest.fixture
def old_tills(cluster: Cluster) -> PostgresStore:
    """Machines of version 1 with open actions and timers."""
    store = PostgresStore(cluster.engine)
    for n in range(10):
        store.start(till, n)
        store.advance(till, n, V1.Pay(n))
    return store


def due(cluster: Cluster, timer: str) -> None:
    """The time of these timers has come."""
    with cluster.engine.begin() as connection:
        connection.execute(
            text("UPDATE fsm.actions SET run_at = now() WHERE timer = :timer AND status = 'pending'"),
            {"timer": timer},
        )


def test_a_worker_of_the_second_version_works_off_the_backlog_of_the_first(
    cluster: Cluster, old_tills: PostgresStore
) -> None:
    """Actions run in their new shape; timers of the old one fire, and end renamed states. Its relay names what nobody reads."""
    left = [a.id for a in old_tills.actions(action="Charge") if a.key in ("0", "1")]
    for each in left:
        old_tills.cancel_action(each)
    usual, cluster.env["FSM_LEASE"] = cluster.env["FSM_LEASE"], "1.5"  # they warn after one
    cluster.relay()
    cluster.worker("stranger", queues="elsewhere")  # it knows other machines, and this one not at all
    old_tills.start(jobs, "known")
    said = "live machines till of version 1, which no worker here reads"
    eventually(lambda: said in cluster.log("stranger"), timeout=20, what="the worker warns")
    eventually(lambda: said in cluster.log("relay"), timeout=20, what="the relay warns")
    assert "live machines jobs" not in cluster.log("relay") + cluster.log("stranger")

    cluster.env["FSM_LEASE"] = usual
    worker(cluster, "second", "till_effects", "default")
    due(cluster, "hurry")
    shown(
        cluster, "the effects ran", "SELECT 1 FROM fsm.machines WHERE state_name = 'Over' HAVING count(*) = 8"
    )
    reads = "SELECT 1 FROM fsm.machines WHERE state_name = 'Billing' AND state -> 'notes' ->> 0 = 'hurry' HAVING count(*) = 2"
    shown(cluster, "the others heard of the time", reads)
    due(cluster, "state:Billing")
    cluster.settled()

    assert {r.version for r in old_tills.machines("till")} == {2}
    assert {r.state_name for r in old_tills.machines("till")} == {"Over"}
    assert sorted(n for n in notes(cluster.notes) if n.startswith("bill")) == [
        f"bill {n} EUR" for n in range(2, 10)
    ]
    assert cluster.store.state_at(later, 0, 2).state == V2.Billing(0, "EUR", ("hurry",))


def test_a_worker_keeps_the_rows_of_a_projection(cluster: Cluster) -> None:
    """Whoever commits the event writes the row, here the worker with the results of effects, all at once."""
    readings.metadata.create_all(cluster.engine)
    cluster.relay()
    worker(cluster, "meters", "meter_effects", "meters", slots=8)
    for key in ("a", "b"):
        cluster.store.start(meter, key)
        for value in range(1, 6):
            cluster.store.advance(meter, key, Read(value))

    cluster.settled()

    with cluster.engine.connect() as connection:
        rows: list[Any] = list(connection.execute(readings.select().order_by(readings.c.key)))
    assert rows == [("a", 15), ("b", 15)]
    assert cluster.store.get(meter, "a").state == Meter(15)
