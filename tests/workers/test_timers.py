"""Timers with real processes: they fire, re-arm themselves, survive a restart, and end machines."""

from itertools import pairwise

import pytest
from sqlalchemy import text

from fsm_core import MachineStatus
from tests.waiting import eventually
from tests.workers.clock import Arm, GaveUp, Idle, Work, clock
from tests.workers.conftest import Cluster


@pytest.fixture
def cluster_of_clocks(cluster: Cluster) -> Cluster:
    cluster.env["FSM_MACHINES"] = "tests.workers.clock:effects"
    cluster.store.registry.add(clock)
    return cluster


def test_a_timer_that_sets_itself_again_fires_each_time_once(cluster_of_clocks: Cluster) -> None:
    """The row that fired ends in the transaction that writes the next one of its name."""
    cluster = cluster_of_clocks
    cluster.relay()
    cluster.worker()
    cluster.store.start(clock, "a")

    cluster.store.advance(clock, "a", Arm(0.1, 4))
    cluster.settled()

    assert cluster.store.get(clock, "a").state == Idle(4)
    history = cluster.store.history(clock, "a")
    assert [(e.name, e.source) for e in history[1:]] == [("Arm", "call"), *[("Ring", "timer")] * 4]
    for before, after in pairwise(history[1:]):
        assert (after.occurred_at - before.occurred_at).total_seconds() >= 0.1
    assert [a.attempt for a in cluster.store.actions()] == [0] * 4


def test_a_state_timeout_ends_the_machine(cluster_of_clocks: Cluster) -> None:
    """It arrives as the built-in event, and the final state ends the other timer."""
    cluster = cluster_of_clocks
    cluster.relay()
    cluster.worker()
    cluster.store.start(clock, "a")
    cluster.store.advance(clock, "a", Arm(3600, 1))

    cluster.store.advance(clock, "a", Work())
    ended = eventually(lambda: _ended(cluster), what="the machine has ended")

    assert ended.state == GaveUp(0)
    assert [(e.name, e.source) for e in cluster.store.history(clock, "a")][-1] == ("Timeout", "timer")
    assert {a.name: str(a.status) for a in cluster.store.actions()} == {
        "After": "cancelled",
        "Timeout": "completed",
    }


def test_timers_survive_whoever_set_them(cluster_of_clocks: Cluster) -> None:
    """Set while nobody runs, and due before anybody starts: they fire when somebody does."""
    cluster = cluster_of_clocks
    cluster.store.start(clock, "a")
    cluster.store.advance(clock, "a", Arm(0.05, 1))
    with cluster.engine.begin() as connection:
        connection.execute(text("UPDATE fsm.actions SET run_at = run_at - interval '1 hour'"))

    cluster.relay()
    cluster.worker()
    cluster.settled()

    assert cluster.store.get(clock, "a").state == Idle(1)


def _ended(cluster: Cluster) -> object:
    now = cluster.store.get(clock, "a")
    return now if now.status is MachineStatus.DONE else None
