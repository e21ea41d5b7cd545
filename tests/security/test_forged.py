"""Whoever reaches the broker can write messages: none of them runs an effect, changes a row or ends a worker."""

import base64
import json
from pathlib import Path
from uuid import UUID

import psutil
import pytest
import redis
from celery.exceptions import InvalidTaskError

from fsm_core.types import ActionStatus
from tests.security import messages
from tests.waiting import eventually
from tests.workers.conftest import Cluster
from tests.workers.jobs import Do, jobs, notes
from workers import forged
from workers.celery import create_app
from workers.task import TASK


def rows(cluster: Cluster) -> list[str]:
    """Every row that a message could change, as text."""
    tables = ("machines", "events", "actions", "attempts", "inbox", "dedup")
    asked = " UNION ALL ".join(f"SELECT t::text AS row FROM fsm.{table} t" for table in tables)
    return sorted(str(row) for row in cluster.ask(f"SELECT array_agg(row) FROM ({asked}) x") or [])


def behind_them(cluster: Cluster, plan: str) -> None:
    """Run one more action, and wait until it is done: a queue keeps its order, so what came before it has been taken."""
    cluster.store.advance(jobs, "a", Do((plan,)))
    eventually(
        lambda: f"end {plan} 1" in notes(cluster.notes), timeout=30, what=f"{plan}; {cluster.log('worker')}"
    )
    cluster.settled()


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_no_message_ends_a_worker_or_changes_a_row(cluster: Cluster, tmp_path: Path, pool: str) -> None:
    canary = tmp_path / "canary"
    cluster.store.start(jobs, "a")
    pid = cluster.worker(pool=pool, slots=2)
    children = {child.pid for child in psutil.Process(pid).children()}
    before = rows(cluster)

    with redis.Redis.from_url(cluster.broker_url) as client:
        for raw in (*messages.hostile(canary).values(), *messages.embedding().values()):
            client.lpush("default", raw)
        eventually(lambda: client.llen("default") == 0, timeout=30, what="all of them are taken")
        assert rows(cluster) == before
        cluster.relay()
        behind_them(cluster, "real")

        assert not canary.exists()
        assert client.exists("elsewhere", "celery") == 0
    assert psutil.Process(pid).is_running()
    assert {child.pid for child in psutil.Process(pid).children()} == children
    assert notes(cluster.notes).count("start real 1") == 1
    assert "\n[CRITICAL] forged" not in cluster.log("worker")


def test_an_app_of_ones_own_sends_no_callbacks_either(cluster: Cluster) -> None:
    """`workers.install(app)`: the task looks at its messages itself, whatever the transport is."""
    cluster.store.start(jobs, "a")
    pid = cluster.worker(app="tests.workers.shop_app")
    cluster.relay()

    with redis.Redis.from_url(cluster.broker_url) as client:
        for raw in messages.embedding().values():
            client.lpush("default", raw)
        behind_them(cluster, "real")

        assert client.exists("elsewhere", "celery") == 0
    assert psutil.Process(pid).is_running()


def test_messages_that_were_seen_are_worth_nothing_later(cluster: Cluster) -> None:
    """Replayed a thousand times, and with a ticket that was right once: no effect runs again."""
    cluster.store.start(jobs, "a")
    cluster.worker(pool="solo", slots=1)
    cluster.relay()
    with redis.Redis.from_url(cluster.broker_url) as client:
        cluster.store.advance(jobs, "a", Do(("wait:go", *map(str, range(7)))))
        eventually(lambda: client.llen("default") > 0, what="messages wait")
        seen = client.lrange("default", 0, -1)
        cluster.open("go")
        cluster.settled()
        before, noted = rows(cluster), notes(cluster.notes)

        for _ in range(1000 // len(seen) + 1):
            client.lpush("default", *seen)
        eventually(lambda: client.llen("default") == 0, timeout=60, what="all of them are taken")
        assert rows(cluster) == before
        behind_them(cluster, "last")

    assert notes(cluster.notes)[: len(noted)] == noted
    assert notes(cluster.notes)[len(noted) :] == ["start last 1", "end last 1"]


def test_a_wrong_ticket_starts_nothing(cluster: Cluster) -> None:
    """The id of an action that waits, and another ticket than its own."""
    cluster.store.start(jobs, "a")
    cluster.worker(pool="solo", slots=1)
    cluster.relay()
    with redis.Redis.from_url(cluster.broker_url) as client:
        cluster.store.advance(jobs, "a", Do(("wait:go", *map(str, range(7)))))
        eventually(lambda: client.llen("default") > 0, what="messages wait")
        cluster.kill("relay")  # which would send what seems to be lost
        waiting = client.lrange("default", 0, -1)
        client.delete("default")
        named = [json.loads(base64.b64decode(json.loads(raw)["body"]))[0] for raw in waiting]
        for ticket, ids in named:
            for wrong in (messages.MINE, str(UUID(int=0)), ticket[:-1], "", None):
                client.lpush("default", messages.envelope(messages.task([wrong, ids])))
        cluster.open("go")
        eventually(lambda: client.llen("default") == 0, what="all of them are taken")
        client.lpush("default", messages.envelope(messages.task(messages.ARGS)))
        eventually(lambda: client.llen("default") == 0, what="the one behind them is taken")
        statuses = {str(a.id): a.status for a in cluster.store.actions(limit=100)}
        assert {statuses[each] for _, ids in named for each in ids} == {ActionStatus.PUBLISHED}

        client.lpush("default", *waiting)  # with their own tickets
        cluster.settled()

    assert len(cluster.store.get(jobs, "a").state.done) == 8


def test_the_app_has_one_task() -> None:
    app = create_app()
    app.finalize()

    assert set(app.tasks) == {TASK}


def test_of_the_headers_nothing_is_left_that_celery_would_obey() -> None:
    given = {
        "id": "1", "task": TASK, "lang": "py", "shadow": "door.Lock", "eta": "2999-01-01T00:00:00", "expires": 1, "group": "g",
        "timelimit": [1, 1], "retries": 5, "ignore_result": False, "stamped_headers": ["x"], "x": 1, "root_id": {}, "parent_id": "p",
        "replaced_task_nesting": 3, "argsrepr": "x" * 10_000, "origin": "gen1\nforged",
    }  # fmt: skip
    left = {
        name: value
        for name, value in forged.cleaned(given, [messages.ARGS, {}, {}]).items()
        if value is not None
    }

    assert left == {
        "id": "1", "task": TASK, "lang": "py", "shadow": "door.Lock", "root_id": "1", "ignore_result": True, "retries": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "embedded", [{"callbacks": [1]}, {"chain": [1]}, {"errbacks": [1]}, {"chord": 1}, {"x": 1}, [1], 1]
)
def test_a_message_that_carries_more_is_refused(embedded: object) -> None:
    with pytest.raises(InvalidTaskError, match="callbacks"):
        forged.cleaned({"id": "1"}, [messages.ARGS, {}, embedded])
