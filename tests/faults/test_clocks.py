"""Time passes, and clocks are wrong: leases and due times are the database's."""

import sys

from tests.faults.conftest import Broken
from tests.waiting import eventually
from tests.workers.jobs import Do, Waiting, jobs, notes


def test_clocks_that_jump_by_a_day_move_no_lease_and_no_due_time(cluster: Broken) -> None:
    """Row 20. Worker and relay look at other clocks than the database's, and at another one each time."""
    cluster._start("relay", [sys.executable, "-m", "tests.faults.skewed", "relay"])
    cluster.worker(app="tests.faults.skewed")
    cluster.store.start(jobs, "a")

    cluster.store.advance(jobs, "a", Do(("raise|fine", "async quick", "wait:go")))
    passed = "SELECT count(*) FROM fsm.actions WHERE started_at < clock_timestamp() - interval '6 seconds'"
    eventually(lambda: cluster.ask(passed), timeout=40, what="an effect has lasted for longer than its lease")
    cluster.open("go")
    actions = cluster.settled()

    assert [[a.outcome for a in action.attempts] for action in actions] == [
        ["error", "completed"], ["completed"], ["completed"],
    ]  # fmt: skip
    ends = "SELECT count(*) FROM fsm.workers WHERE dead_at IS NOT NULL"
    assert cluster.ask(ends) == 0
    assert cluster.ended == []


def test_an_effect_may_last_for_several_leases(cluster: Broken) -> None:
    """Row 22. While its process beats nobody else starts it, however short the lease is; here a child's beside its worker's."""
    cluster.env["FSM_LEASE"] = "1"
    cluster.relay()
    cluster.worker(pool="prefork", slots=1)
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go",)))

    passed = "SELECT count(*) FROM fsm.actions WHERE started_at < clock_timestamp() - interval '3 seconds'"
    eventually(lambda: cluster.ask(passed), timeout=40, what="three leases have passed")
    cluster.open("go")
    (action,) = cluster.settled()

    assert [a.outcome for a in action.attempts] == ["completed"]
    assert notes(cluster.notes).count("start wait:go 1") == 1
    assert cluster.store.get(jobs, "a").state == Waiting(("wait:go",))
