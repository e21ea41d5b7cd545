"""A prefork worker that is told to stop."""

import os
import signal

import psutil

from fsm_core import ActionStatus
from tests.waiting import eventually
from tests.workers.conftest import Cluster
from tests.workers.jobs import Do, jobs, notes


def test_a_child_that_is_told_to_stop_starts_nothing_more_of_its_message(cluster: Cluster) -> None:
    """A message under backlog names many actions: at a deploy nobody waits for all of them."""
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go",) * 20))
    pid = cluster.worker(pool="prefork", slots=1)
    cluster.relay()
    eventually(lambda: "start wait:go 1" in notes(cluster.notes), timeout=30, what="one runs")

    os.kill(pid, signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in cluster.log("worker"), what="the worker stops taking messages")
    cluster.open("go")
    eventually(lambda: not psutil.pid_exists(pid), timeout=60, what="the worker has ended")

    assert notes(cluster.notes).count("start wait:go 1") == 1
    done = [a for a in cluster.store.actions(limit=100) if a.status is ActionStatus.COMPLETED]
    assert len(done) == 1
    assert {a.attempt for a in cluster.store.actions(limit=100)} == {0, 1}
