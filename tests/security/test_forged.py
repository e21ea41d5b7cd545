"""Whoever reaches the broker can write messages: none of them runs an effect, changes a row or ends a worker."""

import base64
import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest
import redis
from celery.exceptions import InvalidTaskError

from fsm_core.postgres.outbox import PostgresOutbox
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
    cluster.env |= {"FSM_MACHINES": "tests.security.sharing:effects", "CANARY": str(canary)}
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


def said(raw: list[bytes]) -> list[tuple[str, list[str]]]:
    """Tickets and ids of messages."""
    return [tuple(json.loads(base64.b64decode(json.loads(each)["body"]))[0]) for each in raw]


def published(cluster: Cluster, client: redis.Redis) -> list[bytes]:
    """The messages of eight actions, for a worker that is not there yet."""
    outbox = PostgresOutbox(cluster.engine)
    outbox.register(
        uuid4(), kind="node", host="nowhere", pid=1, queues={"default": 4}, known={}, lease=timedelta(hours=1)
    )  # fmt: skip
    cluster.relay()
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(tuple(map(str, range(8)))))
    eventually(
        lambda: sum(len(ids) for _, ids in said(client.lrange("default", 0, -1))) == 8,
        timeout=30,
        what="all are in the queue",
    )
    cluster.kill("relay")  # which would send again what seems to be lost
    return client.lrange("default", 0, -1)


def test_what_fits_no_action_is_counted_to_the_last_id(cluster: Cluster) -> None:
    """A thousand replays, wrong tickets and unknown ids: no effect runs, no row changes, and the log tells how many they were."""
    with redis.Redis.from_url(cluster.broker_url) as client:
        seen = published(cluster, client)
        command = [sys.executable, "-m", "workers.cli.main", "worker", "--", "-P", "solo", "-c", "1"]
        cluster._start("worker", command)
        cluster.settled()
        before, noted = set(rows(cluster)), notes(cluster.notes)
        known = [name for _, ids in said(seen) for name in ids]

        for n in range(50):
            wrong = [[str(UUID(int=n)), known], [messages.MINE, [f"{UUID(int=n)}.1.0"] * 4]]
            client.lpush("default", *seen, *(messages.envelope(messages.task(args)) for args in wrong))
        other = cluster.store.start(jobs, "b").id
        send(cluster, client, "b", "last")
        eventually(
            lambda: "end last 1" in notes(cluster.notes), timeout=60, what="what came before it was taken"
        )
        cluster.supervisor.stop("worker")

    after = set(rows(cluster))
    assert before <= after
    assert [row for row in after - before if str(other) not in row] == []
    assert notes(cluster.notes) == [*noted, "start last 1", "end last 1", "resources left"]
    told = re.findall(r"; (\d+) since the start", (cluster.folder / "worker.log").read_text())
    assert int(told[-1]) == 50 * (8 + 8 + 4)


def send(cluster: Cluster, client: redis.Redis, key: str, plan: str) -> None:
    """Emit one more action, and do for it what a relay would: none is there that might send anything twice."""
    cluster.store.advance(jobs, key, Do((plan,)))
    ticket = uuid4()
    ids = [str(row.id) for row in PostgresOutbox(cluster.engine).publish("default", 10, ticket)]
    client.lpush("default", messages.envelope(messages.task([str(ticket), ids])))


def test_messages_that_were_seen_are_worth_nothing_later(cluster: Cluster) -> None:
    """Replayed a thousand times, with tickets that were right once: no effect runs again."""
    with redis.Redis.from_url(cluster.broker_url) as client:
        seen = published(cluster, client)
        cluster.worker(pool="solo", slots=1)
        cluster.settled()
        before, noted = rows(cluster), notes(cluster.notes)

        for _ in range(1000 // len(seen) + 1):
            client.lpush("default", *seen)
        eventually(lambda: client.llen("default") == 0, timeout=60, what="all of them are taken")
        assert rows(cluster) == before
        cluster.relay("next")
        behind_them(cluster, "last")

    assert sorted(notes(cluster.notes)) == sorted([*noted, "start last 1", "end last 1"])


def test_a_wrong_ticket_starts_nothing(cluster: Cluster) -> None:
    """The ids of actions that wait, and other tickets than their own."""
    with redis.Redis.from_url(cluster.broker_url) as client:
        waiting = published(cluster, client)
        client.delete("default")
        for ticket, ids in said(waiting):
            for wrong in (messages.MINE, str(UUID(int=0)), ticket[:-1], "", None):
                client.lpush("default", messages.envelope(messages.task([wrong, ids])))
        client.lpush("default", messages.envelope(messages.task(messages.ARGS)))
        before = rows(cluster)
        cluster.worker(pool="solo", slots=1)
        eventually(lambda: client.llen("default") == 0, what="all of them are taken")
        client.lpush("default", *waiting)  # with their own tickets, behind them
        cluster.settled()

    assert [len(a.attempts) for a in cluster.store.actions(limit=100)] == [1] * 8
    assert len([row for row in before if "published" in row]) == 8
    assert sorted(cluster.store.get(jobs, "a").state.done) == sorted(map(str, range(8)))
    effects = [note for note in notes(cluster.notes) if not note.startswith("resources")]
    assert sorted(effects) == sorted(f"{what} {n} 1" for n in range(8) for what in ("start", "end"))


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
