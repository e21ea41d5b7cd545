"""Never deaf (G14): a process that is cut off works again once the network does, or ends for its supervisor."""

from pathlib import Path

import pytest

from chaos.proxy import Proxy, Way
from tests.faults.conftest import Broken
from tests.waiting import eventually
from tests.workers.jobs import Do, jobs, notes


def done(cluster: Broken) -> tuple[str, ...]:
    return cluster.store.get(jobs, "a").state.done


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_behind_a_black_hole_to_its_broker_consumes_again(
    cluster: Broken, broker: Proxy, pool: str
) -> None:
    """Row 16. It notices by itself that its BRPOP is not answered; what was lost meanwhile is published again."""
    cluster.relay()
    with cluster.via(broker=broker):
        cluster.worker(pool=pool, slots=2)
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("before",)))
    eventually(lambda: done(cluster) == ("before",), what="it consumes")

    broker.black_hole()
    eventually(lambda: broker.swallowed, what="it asks for messages")
    tried = broker.accepted
    cluster.store.advance(jobs, "a", Do(("within",)))
    eventually(lambda: broker.accepted > tried, timeout=30, what="it tries to connect anew")
    broker.heal()

    eventually(lambda: done(cluster) == ("before", "within"), timeout=60, what="it consumes again")
    assert cluster.ended == []


@pytest.mark.release
@pytest.mark.timeout(420)
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_black_hole_of_two_minutes_is_over_a_minute_later(
    cluster: Broken, broker: Proxy, pool: str
) -> None:
    """Row 16 as it is written, with the settings of production: the minute is the promise."""
    for quicker in ("CELERY_CONFIG_MODULE", "FSM_PATIENCE", "FSM_LEASE"):
        del cluster.env[quicker]
    with cluster.via(broker=broker):
        cluster.relay()
        cluster.worker(pool=pool, slots=2)
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("before",)))
    eventually(lambda: done(cluster) == ("before",), timeout=60, what="it consumes")

    broker.black_hole()
    cluster.store.advance(jobs, "a", Do(("within",)))
    passed = (
        "SELECT count(*) FROM fsm.events WHERE seq = 3 AND occurred_at < clock_timestamp() - interval '2 min'"
    )
    eventually(lambda: cluster.ask(passed), timeout=180, what="two minutes are over")
    broker.heal()

    eventually(lambda: done(cluster) == ("before", "within"), timeout=60, what="it consumes again")
    assert cluster.ended == []


def test_a_worker_that_is_deaf_while_the_broker_answers_ends(cluster: Broken, broker: Proxy) -> None:
    """A half-open connection that nobody checks: the worker finishes what it runs, and its exit status is 1."""
    cluster.relay()
    with cluster.via(broker=broker, TEST_HEALTH_CHECK="1000", FSM_STUCK="3"):
        cluster.worker()
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go",)))
    eventually(lambda: "start wait:go 1" in notes(cluster.notes), what="the effect runs")

    broker.drop(Way.UP, matching=b"BRPOP")
    eventually(lambda: "no answer from the broker" in cluster.log("worker"), timeout=40, what="it notices")
    cluster.open("go")

    assert cluster.status("worker") == 1
    assert done(cluster) == ("wait:go",)
    assert [a.attempt for a in cluster.store.actions()] == [1]


def test_a_worker_whose_loop_is_stuck_does_not_look_alive_and_ends(cluster: Broken, tmp_path: Path) -> None:
    """Its heart beats, its lease is kept, the broker answers: all that does not help. What it took is run by another."""
    alive = tmp_path / "alive"
    cluster.relay()
    with cluster.via(FSM_LIVENESS_FILE=str(alive), FSM_STUCK="3"):
        cluster.worker("stuck", app="tests.faults.stuck")
        eventually(alive.exists, what="it looks alive")
        cluster.store.start(jobs, "a")
        cluster.store.advance(jobs, "a", Do(("job",)))
        eventually(
            lambda: cluster.ask("SELECT count(*) FROM fsm.actions WHERE published_at IS NOT NULL"),
            what="sent",
        )

        assert cluster.status("stuck") == 1

    assert "in stand_still" in (cluster.folder / "stuck.log").read_text()  # where each thread stood
    cluster.worker("other")
    cluster.settled(timeout=60)


@pytest.mark.parametrize("side", ["database", "broker"])
def test_a_relay_behind_a_black_hole_publishes_again(
    cluster: Broken, database: Proxy, broker: Proxy, side: str
) -> None:
    """Towards Postgres or the broker: after the network is back, what was committed meanwhile is published."""
    hole = database if side == "database" else broker
    with cluster.via(database=database, broker=broker):
        cluster.relay()
    cluster.worker()
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("before",)))
    eventually(lambda: done(cluster) == ("before",), what="it publishes")

    hole.black_hole()
    tried = hole.accepted
    cluster.store.advance(jobs, "a", Do(("within",)))
    eventually(lambda: hole.accepted > tried, timeout=30, what="it tries to connect anew")
    hole.heal()

    eventually(lambda: done(cluster) == ("before", "within"), timeout=60, what="it publishes again")
    assert cluster.ended == []


def test_a_worker_cut_off_from_postgres_goes_on_once_it_is_back(
    cluster: Broken, database: Proxy, broker: Proxy
) -> None:
    """Row 17. Beyond its lease another one's result stands, its own is late; then it takes a new lease, and works.

    From the broker, too: else it would go on taking messages that it cannot claim.
    """
    cluster.relay()
    with cluster.via(database=database, broker=broker):
        cluster.worker("cut off")
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go|quick",)))
    eventually(lambda: "start wait:go|quick 1" in notes(cluster.notes), what="the effect runs")

    database.black_hole()
    broker.black_hole()
    cluster.worker("other")
    (action,) = cluster.settled(timeout=90)
    cluster.supervisor.stop("other")
    cluster.open("go")
    eventually(lambda: "end wait:go|quick 1" in notes(cluster.notes), what="the first attempt has ended, too")
    database.heal()
    broker.heal()

    late = "SELECT count(*) FROM fsm.attempts WHERE late IS NOT NULL"
    eventually(lambda: cluster.ask(late) == 1, timeout=40, what="the late result is recorded")
    assert [a.outcome for a in action.attempts] == ["lost", "completed"]
    assert cluster.store.get(jobs, "a").seq == 2
    cluster.store.advance(jobs, "a", Do(("after",)))
    eventually(lambda: done(cluster)[1:] == ("after",), timeout=40, what="it works again")
    assert cluster.ended == []
