"""What each crash leaves behind is repaired, and shows only in the attempts."""

import os
import signal

import psutil
import pytest
import redis

from fsm_core import ActionStatus
from fsm_core.errors import WrongStatus
from tests.waiting import eventually
from tests.workers.conftest import Cluster
from tests.workers.jobs import Broken, Do, Waiting, jobs, notes


def test_a_worker_killed_in_mid_effect_costs_one_attempt(cluster: Cluster) -> None:
    """SIGKILL in the effect: the lease runs out, the next attempt finishes, the machine hears of it once."""
    cluster.relay()
    cluster.worker("first")
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go",)))
    eventually(lambda: "start wait:go 1" in notes(cluster.notes), what="the effect runs")

    cluster.kill("first")
    cluster.open("go")
    cluster.worker("second")
    (action,) = cluster.settled()

    assert [(a.number, a.outcome) for a in action.attempts] == [(1, "lost"), (2, "completed")]
    assert cluster.store.get(jobs, "a").state == Waiting(("wait:go",))
    assert cluster.store.get(jobs, "a").seq == 2


def test_a_killed_pool_child_costs_one_attempt(cluster: Cluster) -> None:
    """SIGKILL of a prefork child: its own lease runs out while its worker lives on."""
    cluster.relay()
    pid = cluster.worker(pool="prefork", slots=1)
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go",)))
    eventually(lambda: "start wait:go 1" in notes(cluster.notes), what="the effect runs")

    (child,) = psutil.Process(pid).children()
    child.kill()
    cluster.open("go")
    (action,) = cluster.settled()

    assert [a.outcome for a in action.attempts] == ["lost", "completed"]


def test_an_action_that_kills_its_worker_every_time_ends_as_failed(cluster: Cluster) -> None:
    """Poison: never started more than max_attempts times, then the machine gets Failed; neighbours finish."""
    cluster.relay()
    cluster.worker(pool="prefork", slots=2)
    cluster.store.start(jobs, "bad")
    cluster.store.start(jobs, "good")

    cluster.store.advance(jobs, "bad", Do(("die",)))
    cluster.store.advance(jobs, "good", Do(("one", "two")))
    cluster.settled(timeout=90)

    assert notes(cluster.notes).count("start die 1") == 1
    assert sum(n.startswith("start die") for n in notes(cluster.notes)) == 4
    assert cluster.store.get(jobs, "bad").state == Broken("all 4 attempts were lost with their workers", 4)
    assert set(cluster.store.get(jobs, "good").state.done) == {"one", "two"}


def test_a_wiped_broker_costs_latency_and_no_attempt(cluster: Cluster) -> None:
    """FLUSHALL while messages wait: they are published again, under the same ticket, on evidence."""
    cluster.relay()
    cluster.store.start(jobs, "a")
    cluster.worker("only", slots=1, pool="solo")
    cluster.store.advance(jobs, "a", Do(("wait:go", *(f"job {n}" for n in range(5)))))
    eventually(lambda: "start wait:go 1" in notes(cluster.notes), what="the worker is busy")

    with redis.Redis.from_url(cluster.broker_url) as client:
        eventually(lambda: client.llen("default") > 0, what="messages wait in the broker")
        client.flushdb()
    cluster.open("go")
    actions = cluster.settled(timeout=60)

    assert {a.attempt for a in actions} == {1}
    assert len(cluster.store.get(jobs, "a").state.done) == 6


def test_sigterm_lets_effects_finish_and_gives_the_lease_back(cluster: Cluster) -> None:
    """A deploy: the running effect finishes and is committed, nothing is lost, nobody waits for a lease."""
    cluster.relay()
    pid = cluster.worker()
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go", "async quick")))
    running = {"start wait:go 1", "end quick 1"}
    eventually(lambda: running <= set(notes(cluster.notes)), what="one effect runs, the other has ended")

    os.kill(pid, signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in cluster.log("worker"), what="the worker stops taking messages")
    cluster.open("go")
    eventually(lambda: not psutil.pid_exists(pid), timeout=20, what="the worker has ended")

    assert sorted(cluster.store.get(jobs, "a").state.done) == ["quick", "wait:go"]
    assert [a.attempt for a in cluster.store.actions()] == [1, 1]
    assert cluster.nodes() == 0
    assert notes(cluster.notes)[-1] == "resources left"


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_timeout_ends_the_attempt_at_once(cluster: Cluster, pool: str) -> None:
    """An effect that hangs: its attempt is recorded as timed out, and its probe is asked before the next."""
    cluster.relay()
    cluster.worker(pool=pool, slots=2)
    cluster.store.start(jobs, "a")

    cluster.store.advance(jobs, "a", Do(("probed hang:go", "async sleep")))
    actions = cluster.settled()
    cluster.open("go")

    by_name = {a.name: [t.outcome for t in a.attempts] for a in actions}
    assert by_name == {"Asked": ["timed_out", "completed"], "Later": ["timed_out", "completed"]}
    assert set(cluster.store.get(jobs, "a").state.done) == {"probed hang:go", "sleep"}
    assert "cancelled sleep" in notes(cluster.notes)


def test_a_late_result_is_recorded_and_not_applied(cluster: Cluster) -> None:
    """Given an effect in a thread that overran its timeout, its result stands with its attempt and changes nothing."""
    cluster.relay()
    cluster.worker()
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("probed hang:go",)))
    cluster.settled()
    before = cluster.store.get(jobs, "a")

    cluster.open("go")

    late = "SELECT late -> 'events' -> 0 ->> 'name' FROM fsm.attempts WHERE late IS NOT NULL"
    assert eventually(lambda: cluster.ask(late), what="the late result is recorded") == "Did"
    assert cluster.store.get(jobs, "a") == before


def test_a_bug_in_a_transition_keeps_the_result(cluster: Cluster) -> None:
    """The effect is not run again: the action fails with its result, and a retry after the fix applies it."""
    cluster.relay()
    cluster.worker()
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("trouble", "fine")))
    by_status = {a.status: a for a in cluster.settled()}
    broken = by_status[ActionStatus.FAILED]
    assert broken.note == "transition"
    assert "ZeroDivisionError" in str(broken.error)
    assert cluster.store.get(jobs, "a").state == Waiting(("fine",))

    cluster.open("fixed")
    assert cluster.store.retry([broken.id]) == [broken.id]
    cluster.settled()

    assert cluster.store.get(jobs, "a").state == Waiting(("fine", "trouble"))
    assert notes(cluster.notes).count("start trouble 1") == 1
    with pytest.raises(WrongStatus):
        cluster.store.retry([broken.id])


def test_a_cancelled_action_does_not_come_back(cluster: Cluster) -> None:
    """What was cancelled while it ran is void: its result is recorded as ignored, the machine stays as it is."""
    cluster.relay()
    cluster.worker()
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go",)))
    eventually(lambda: "start wait:go 1" in notes(cluster.notes), what="the effect runs")
    (action,) = cluster.store.actions()

    cluster.store.cancel_action(action.id)
    cluster.open("go")

    query = "SELECT count(*) FROM fsm.attempts WHERE outcome = 'ignored' AND late IS NOT NULL"
    eventually(lambda: cluster.ask(query) == 1, what="the late result is recorded")
    assert cluster.store.action(action.id).status is ActionStatus.CANCELLED
    assert cluster.store.get(jobs, "a").state == Waiting()


def test_a_worker_cut_off_beyond_its_lease_cannot_commit(cluster: Cluster) -> None:
    """SIGSTOP beyond the lease, then SIGCONT: the other worker's result stands, the stopped one's is late."""
    cluster.relay()
    pid = cluster.worker("stopped")
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go",)))
    eventually(lambda: "start wait:go 1" in notes(cluster.notes), what="the effect runs")

    os.kill(pid, signal.SIGSTOP)
    try:
        cluster.worker("other")
        cluster.open("go")
        (action,) = cluster.settled()
    finally:
        os.kill(pid, signal.SIGCONT)

    eventually(
        lambda: cluster.ask("SELECT count(*) FROM fsm.attempts WHERE late IS NOT NULL") == 1,
        what="the late result",
    )
    assert [a.outcome for a in action.attempts] == ["lost", "completed"]
    assert cluster.store.get(jobs, "a").seq == 2
