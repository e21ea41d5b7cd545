"""The whole path with real processes: commit, relay, broker, worker, effect, and back through the machine."""

import base64
import json
import uuid

import pytest
import redis

from fsm_core import ActionStatus
from fsm_core.explain import explain
from tests.waiting import eventually
from tests.workers.conftest import Cluster
from tests.workers.jobs import Broken, Do, Shout, Waiting, jobs, notes, pids


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_an_event_comes_back_as_the_result_of_its_effect(cluster: Cluster, pool: str) -> None:
    """Given a worker of any pool, an effect's result becomes an event of its machine."""
    cluster.relay()
    cluster.worker(pool=pool, slots=2)

    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("one", "async two", "silent")))
    actions = cluster.settled()

    assert {a.status for a in actions} == {ActionStatus.COMPLETED}
    assert set(cluster.store.get(jobs, "a").state.done) == {"one", "two"}
    assert [a.attempt for a in actions] == [1, 1, 1]


def test_retries_are_rows_with_the_policys_delays(cluster: Cluster) -> None:
    """An effect that fails twice runs three times; each failed attempt is on record with its error."""
    cluster.relay()
    cluster.worker()
    cluster.store.start(jobs, "a")

    cluster.store.advance(jobs, "a", Do(("raise|raise|ok",)))
    (action,) = cluster.settled()

    assert [(a.number, a.outcome) for a in action.attempts] == [(1, "error"), (2, "error"), (3, "completed")]
    assert action.attempts[0].error == "RuntimeError: the effect failed"
    assert cluster.store.get(jobs, "a").state == Waiting(("raise|raise|ok",))


@pytest.mark.parametrize(
    ("plan", "attempts", "error"),
    [("raise", 4, "RuntimeError: the effect failed"), ("permanent", 1, "no use")],
)
def test_a_failed_action_is_an_event_of_its_machine(
    cluster: Cluster, plan: str, attempts: int, error: str
) -> None:
    """After the last attempt, or at once by Permanent, the machine gets Failed and the action stands as failed."""
    cluster.relay()
    cluster.worker()
    cluster.store.start(jobs, "a")

    cluster.store.advance(jobs, "a", Do((plan,)))
    (action,) = cluster.settled()

    assert action.status is ActionStatus.FAILED
    assert action.error == error
    assert notes(cluster.notes).count("resources entered") == 1
    assert sum(line.startswith("start") for line in notes(cluster.notes)) == attempts
    assert cluster.store.get(jobs, "a").state == Broken(error, attempts)
    told = [reason for reason in explain(cluster.store.explain(jobs, "a")) if reason.code == "failed-told"]
    assert [reason.advice for reason in told] == [None]


def test_an_untracked_action_runs_at_most_once(cluster: Cluster) -> None:
    """Fire and forget: one that raises is not tried again, and the worker goes on."""
    cluster.relay()
    cluster.worker()
    cluster.store.start(jobs, "a")

    cluster.store.advance(jobs, "a", Shout("raise"))
    cluster.store.advance(jobs, "a", Shout("hello"))

    eventually(lambda: {"tell raise", "tell hello"} <= set(notes(cluster.notes)), what="both were told")
    assert sorted(n for n in notes(cluster.notes) if n.startswith("tell")) == ["tell hello", "tell raise"]
    assert {a.status for a in cluster.settled()} == {ActionStatus.COMPLETED}


def test_a_partition_key_admits_one_action_at_a_time_in_order(cluster: Cluster) -> None:
    """Of one lane nothing starts before its predecessor has ended, a waiting retry included."""
    cluster.relay()
    cluster.worker(slots=4)
    cluster.store.start(jobs, "a")

    cluster.store.advance(jobs, "a", Do(("raise|first", "second", "third"), lane="x"))
    cluster.settled()

    lines = [line for line in notes(cluster.notes) if line.startswith(("start", "end"))]
    assert lines == [
        *("start raise|first 1", "start raise|first 2", "end raise|first 2"),
        *("start second 1", "end second 1", "start third 1", "end third 1"),
    ]


def test_more_workers_and_relays_share_the_load(cluster: Cluster) -> None:
    """Two workers and two relays: each action runs once, and both workers had some."""
    for name in ("relay1", "relay2"):
        cluster.relay(name)
    for name in ("worker1", "worker2"):
        cluster.worker(name, slots=2)
    for n in range(40):
        cluster.store.start(jobs, n)
        cluster.store.advance(jobs, n, Do((f"job {n}",)))

    actions = cluster.settled()

    assert [a.attempts for a in actions if a.attempt != 1] == []
    starts = [line for line in notes(cluster.notes) if line.startswith("start")]
    assert len(starts) == len(set(starts)) == 40
    assert len(pids(cluster.notes)) == 2


def test_an_action_goes_to_the_queue_of_its_route(cluster: Cluster) -> None:
    """A queue that nobody serves is not flooded: its rows stay pending until somebody does."""
    cluster.relay()
    cluster.worker("default")
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("special",), queue="special"))
    cluster.store.advance(jobs, "a", Do(("plain",)))

    eventually(
        lambda: cluster.store.get(jobs, "a").state == Waiting(("plain",)), what="the plain one is done"
    )
    assert [a.status for a in cluster.store.actions(queue="special")] == [ActionStatus.PENDING]

    cluster.worker("special", queues="special")
    eventually(
        lambda: cluster.store.get(jobs, "a").state == Waiting(("plain", "special")),
        what="the special one too",
    )


def test_forged_and_replayed_messages_change_nothing(cluster: Cluster) -> None:
    """Whoever can write to the broker can run nothing: ids and tickets are hints, the row decides."""
    cluster.relay()
    cluster.worker()
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go",)))
    eventually(lambda: "start wait:go 1" in notes(cluster.notes), what="it runs")
    (action,) = cluster.store.actions()

    with redis.Redis.from_url(cluster.broker_url) as client:
        for ticket, ids in (
            (str(uuid.uuid4()), [str(action.id)]),
            (str(uuid.uuid4()), [f"{uuid.uuid4()}.1.0"]),
            ("no ticket", ["no id"]),
            (None, {"a": 1}),
        ):
            client.lpush("default", _message([ticket, ids]))
        eventually(lambda: client.llen("default") == 0, what="all were taken")
    eventually(
        lambda: all(words in cluster.log("worker") for words in ("none of ours", "does not name 1 to")),
        what="the two that are no messages were refused, by the task and before it",
    )
    cluster.open("go")
    cluster.settled()

    assert [line for line in notes(cluster.notes) if line.startswith("start")] == ["start wait:go 1"]
    assert cluster.store.get(jobs, "a").seq == 2


def test_the_task_can_be_installed_in_an_existing_celery_app(cluster: Cluster) -> None:
    """`workers.install(app)`: the application's own workers run actions beside its own tasks."""
    cluster.relay()
    cluster.worker(app="tests.workers.shop_app")
    cluster.store.start(jobs, "a")

    cluster.store.advance(jobs, "a", Do(("one",)))

    cluster.settled()
    assert cluster.store.get(jobs, "a").state == Waiting(("one",))


def _message(args: list[object]) -> str:
    """A Celery message (protocol 2) as anybody could write it."""
    task_id = str(uuid.uuid4())
    headers = {"lang": "py", "task": "fsm.run", "id": task_id, "root_id": task_id, "ignore_result": True}
    properties = {
        "correlation_id": task_id,
        "delivery_mode": 2,
        "delivery_tag": str(uuid.uuid4()),
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "default"},
    }
    body = base64.b64encode(json.dumps([args, {}, {}]).encode()).decode()
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
    )
