"""Schedules with real processes: they are there when a worker has started, and each tick starts one machine."""

import pytest
from sqlalchemy import text

from fsm_core.errors import MachineNotFound
from tests.waiting import eventually
from tests.workers.conftest import Cluster
from tests.workers.crons import nightly, report


@pytest.fixture
def scheduled(cluster: Cluster) -> Cluster:
    cluster.env["FSM_MACHINES"] = "tests.workers.crons:nightly,tests.workers.crons:effects"
    cluster.store.registry.add(nightly)
    cluster.store.registry.add(report)
    return cluster


def there(cluster: Cluster) -> bool:
    try:
        return bool(cluster.store.get(nightly, "nightly"))
    except MachineNotFound:
        return False


def tick(cluster: Cluster) -> None:
    """The timer is due now, whatever the clock says."""
    with cluster.engine.begin() as connection:
        due = "UPDATE fsm.actions SET run_at = clock_timestamp() WHERE timer = 'tick' AND status = 'pending'"
        connection.execute(text(due))


def test_each_tick_starts_one_machine_with_two_relays_and_two_workers(scheduled: Cluster) -> None:
    for name in ("a", "b"):
        scheduled.relay(f"relay-{name}")
        scheduled.worker(f"worker-{name}")
    eventually(lambda: there(scheduled), what="the schedule is there")

    for count in range(1, 6):
        tick(scheduled)
        eventually(lambda n=count: len(scheduled.store.machines("report")) == n, what=f"tick {count}")
    eventually(
        lambda: all(r.status == "done" for r in scheduled.store.machines("report")), what="they have run"
    )

    history = scheduled.store.history(nightly, "nightly")
    assert [e.name for e in history] == ["Scheduled", *["Tick"] * 5]
    keys = sorted(r.key for r in scheduled.store.machines("report"))
    assert len(set(keys)) == 5
    assert all(key.startswith("nightly/") and key.endswith("-01-01T03:00Z") for key in keys)


def test_a_worker_with_another_expression_reschedules(scheduled: Cluster) -> None:
    scheduled.worker("old")
    eventually(lambda: there(scheduled), what="the schedule is there")
    scheduled.kill("old")

    scheduled.env["TEST_CRON"] = "30 4 * * *"
    scheduled.worker("new")

    now = eventually(
        lambda: (s := scheduled.store.get(nightly, "nightly")) and s.state.cron == "30 4 * * *" and s,
        what="it has the new expression",
    )
    assert (now.state.next.hour, now.state.next.minute) == (4, 30)
    assert [e.name for e in scheduled.store.history(nightly, "nightly")] == ["Scheduled", "Reschedule"]
