"""The broker fails: it is away, full, forgetful, or says everything three times. Rows stay the truth."""

import random
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from chaos.proxy import Proxy
from fsm_core import ActionStatus
from fsm_core.postgres.outbox import PostgresOutbox
from tests.faults.conftest import Broken
from tests.waiting import eventually
from tests.workers.jobs import Do, jobs, notes
from workers.dev.valkey import valkey


@pytest.fixture
def own_broker(cluster: Broken, tmp_path: Path) -> Iterator[redis.Redis]:
    """A broker that the test may configure; the cluster's processes use it."""
    with valkey(tmp_path) as url, redis.Redis.from_url(url) as client:
        cluster.env["BROKER_URL"] = url
        yield client


def test_a_broker_that_is_away_and_comes_back_empty_costs_time_only(cluster: Broken, broker: Proxy) -> None:
    """Row 10. Callers do not notice; what was committed meanwhile, and what the broker had, is run once each."""
    with cluster.via(broker=broker):
        cluster.relay()
        cluster.worker(slots=1)
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go", "queued 1", "queued 2")))
    eventually(lambda: "start wait:go 1" in notes(cluster.notes), what="the worker is busy")

    broker.refuse()
    with redis.Redis.from_url(cluster.broker_url) as client:
        client.flushdb()
    cluster.store.advance(jobs, "a", Do(("while it was away",)))
    eventually(lambda: "nothing is published" in cluster.log("relay"), timeout=30, what="the relay notices")
    cluster.open("go")
    eventually(lambda: "end wait:go 1" in notes(cluster.notes), what="the running effect ends all the same")
    broker.heal()

    assert {a.attempt for a in cluster.settled(timeout=60)} == {1}
    assert sorted(n for n in notes(cluster.notes) if n.startswith("start")) == [
        "start queued 1 1", "start queued 2 1", "start wait:go 1", "start while it was away 1",
    ]  # fmt: skip
    assert cluster.ended == []


def test_a_broker_without_memory_takes_nothing_and_loses_nothing(
    cluster: Broken, own_broker: redis.Redis
) -> None:
    """Row 11. What cannot be published is due again, and counted against nobody."""
    cluster.relay()
    cluster.worker()
    own_broker.config_set("maxmemory", 1)
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("job",)))
    eventually(lambda: "nothing is published" in cluster.log("relay"), timeout=30, what="the relay is told")
    eventually(
        lambda: [(a.status, a.attempt) for a in cluster.store.actions()] == [(ActionStatus.PENDING, 0)],
        what="the action is pending again",
    )

    own_broker.config_set("maxmemory", 0)

    assert [a.attempt for a in cluster.settled()] == [1]


def test_a_broker_that_would_drop_queues_is_refused_at_the_start(
    cluster: Broken, own_broker: redis.Redis
) -> None:
    """Row 11. Relay and worker say why, and end."""
    own_broker.config_set("maxmemory-policy", "allkeys-lru")
    cluster.relay()
    cluster._start("worker", [sys.executable, "-m", "celery", "-A", "workers", "worker", "-P", "solo"])

    for name in ("relay", "worker"):
        assert cluster.status(name) == 1
        assert "maxmemory-policy allkeys-lru" in cluster.log(name)


def test_messages_that_come_three_times_and_in_no_order_start_each_effect_once(cluster: Broken) -> None:
    """Row 19. With what was run already among them: the ticket in a copy is used up."""
    jobs_ = [f"job {n}" for n in range(12)]
    cluster.relay()
    cluster.worker(slots=1, pool="solo")
    cluster.store.start(jobs, "a")
    with redis.Redis.from_url(cluster.broker_url) as client:
        cluster.store.advance(jobs, "a", Do(("wait:go", *jobs_)))
        eventually(lambda: "start wait:go 1" in notes(cluster.notes), what="the worker is busy")
        cluster.supervisor.stop("relay")  # it gives its window back, and publishes nothing more
        waiting = client.lrange("default", 0, -1)
        copies = waiting * 3
        random.Random(19).shuffle(copies)
        client.delete("default")
        client.rpush("default", *copies)

        cluster.open("go")
        cluster.relay("second relay")
        cluster.settled(timeout=60)
        client.rpush("default", *copies)
        eventually(lambda: client.llen("default") == 0, what="the copies of what has ended are taken")

    assert waiting
    assert sorted(n for n in notes(cluster.notes) if n.startswith("start job")) == sorted(
        f"start {job} 1" for job in jobs_
    )
    assert {a.attempt for a in cluster.store.actions()} == {1}
    assert cluster.store.get(jobs, "a").seq == 1 + 13


def test_messages_held_back_beyond_lease_and_reconciling_start_each_effect_once(cluster: Broken) -> None:
    """Row 19. Three copies of each, in no order, and late: after it was sent again, in an effect longer than a lease, after the end."""
    plans = [f"wait:go|{n}" for n in range(6)]
    PostgresOutbox(cluster.engine).register(
        uuid4(), kind="node", host="nowhere", pid=1, queues={"default": 6}, known={}, lease=timedelta(hours=1)
    )  # whom the relay sends to, while nobody takes anything
    cluster.relay()
    cluster.store.start(jobs, "a")
    with redis.Redis.from_url(cluster.broker_url) as client:
        cluster.store.advance(jobs, "a", Do(tuple(plans)))
        eventually(lambda: client.llen("default") == len(plans), timeout=30, what="all were sent")
        held = client.lrange("default", 0, -1) * 3
        random.Random(19).shuffle(held)
        client.delete("default")
        again = "SELECT min(publishes) > 0 FROM fsm.actions"
        eventually(lambda: cluster.ask(again), timeout=30, what="all were sent again, under their tickets")

        client.lpush("default", *held[:6])
        cluster.worker(slots=8)
        long = "SELECT bool_and(status = 'running' AND started_at < clock_timestamp() - interval '5 s') FROM fsm.actions"
        eventually(
            lambda: cluster.ask(long), timeout=60, what="all have run for longer than the lease of 4 s"
        )
        client.lpush("default", *held[6:12])
        eventually(lambda: client.llen("default") == 0, timeout=30, what="the copies of what runs are taken")
        cluster.open("go")
        cluster.settled()
        client.lpush("default", *held[12:])
        cluster.store.advance(jobs, "a", Do(("last",)))
        cluster.settled()
        cluster.supervisor.stop(
            "worker"
        )  # after what it has taken, which is all that came before the last one

    assert sorted(n for n in notes(cluster.notes) if n.startswith("start")) == sorted(
        f"start {plan} 1" for plan in [*plans, "last"]
    )
    assert [len(a.attempts) for a in cluster.store.actions()] == [1] * 7
    assert sorted(cluster.store.get(jobs, "a").state.done) == sorted([*plans, "last"])
    assert cluster.store.get(jobs, "a").seq == 2 + 7
