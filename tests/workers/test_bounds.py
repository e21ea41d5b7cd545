"""Queues that are bounded inside one worker: a slow one keeps to its slots, and the others have the rest."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from fsm_core import ActionStatus
from fsm_core.errors import ConfigurationError
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.registry import Registry
from fsm_core.types import ActionId
from tests.waiting import eventually
from tests.workers.conftest import ROOT, Cluster
from tests.workers.jobs import Do, effects, jobs, notes
from workers.bounds import Bound
from workers.runtime import Runtime
from workers.settings import Settings, read

IDS = [ActionId(UUID(int=n), 1, 0) for n in range(10)]


def running(lines: list[str], plan: str) -> int:
    """The most that ran at once, as the notes tell."""
    most = now = 0
    for line in lines:
        now += line.startswith(f"start {plan}") - line.startswith(f"end {plan}")
        most = max(most, now)
    return most


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOBS_FILE", str(tmp_path / "notes"))
    return tmp_path / "notes"


@pytest.fixture
def runtime(database_url: str, file: Path) -> Iterator[Runtime]:
    settings = Settings(database_url, lease=timedelta(seconds=30))
    made = Runtime(settings, Registry([effects]), kind="node", queues={"slow": 2, "default": 4}, slots=4)
    yield made
    made.close()


def published(engine: Engine, store: PostgresStore, queue: str, *plans: str) -> tuple[UUID, list[ActionId]]:
    ticket = uuid4()
    store.advance(jobs, "a", Do(plans, queue=queue))
    return ticket, [row.id for row in PostgresOutbox(engine).publish(queue, 100, ticket)]


def test_a_slow_queue_leaves_its_neighbours_their_slots(engine: Engine, runtime: Runtime, file: Path) -> None:
    """Its second message returns at once, its ids wait here, published; they run when its own effects have ended."""
    store = PostgresStore(engine)
    store.start(jobs, "a")
    slow = [published(engine, store, "slow", *["wait:go"] * 3) for _ in range(2)]
    first = threading.Thread(target=runtime.handle, args=(*slow[0], "slow"))
    first.start()
    eventually(lambda: running(notes(file), "wait:go") == 2, what="two of the slow queue run")

    runtime.handle(*slow[1], "slow")
    runtime.handle(*published(engine, store, "default", "quick", "quick"), "default")

    assert notes(file).count("end quick 1") == 2
    statuses = [a.status for a in store.actions(queue="slow")]
    assert sorted(statuses) == [ActionStatus.PUBLISHED] * 4 + [ActionStatus.RUNNING] * 2
    Path(f"{file}.go").touch()
    first.join()
    assert runtime._finisher.flush(10)
    assert [a.status for a in store.actions()] == [ActionStatus.COMPLETED] * 8
    assert running(notes(file), "wait:go") == 2
    assert {a.attempt for a in store.actions()} == {1}
    assert runtime._slots.more(9) == 4
    runtime._slots.give(4)
    assert runtime._bounds["slow"].put(uuid4(), IDS) == 2


def test_a_draining_worker_hands_back_what_waits_for_its_queue(
    engine: Engine, runtime: Runtime, file: Path
) -> None:
    """Without an attempt, for another worker to take at once; what runs is waited for."""
    store = PostgresStore(engine)
    store.start(jobs, "a")
    message = published(engine, store, "slow", *["wait:go"] * 5)
    first = threading.Thread(target=runtime.handle, args=(*message, "slow"))
    first.start()
    eventually(lambda: running(notes(file), "wait:go") == 2, what="two of the slow queue run")

    runtime.drain()
    Path(f"{file}.go").touch()
    first.join()
    assert runtime._finisher.flush(10)

    found = sorted((a.status, a.attempt) for a in store.actions())
    assert found == [(ActionStatus.COMPLETED, 1)] * 2 + [(ActionStatus.PENDING, 0)] * 3


def test_what_waits_for_a_slot_and_its_queue_goes_back_when_the_process_is_to_stop(
    engine: Engine, runtime: Runtime
) -> None:
    """Others may hold all slots for long: nobody waits for them."""
    store = PostgresStore(engine)
    store.start(jobs, "a")
    assert runtime._slots.take(4) == 4
    message = threading.Thread(
        target=runtime.handle, args=(*published(engine, store, "slow", *["one"] * 5), "slow"), daemon=True
    )
    message.start()
    eventually(lambda: runtime._bounds["slow"]._waiting, what="its ids wait")

    runtime.drain()

    message.join(30)
    assert not message.is_alive()
    assert [(a.status, a.attempt) for a in store.actions()] == [(ActionStatus.PENDING, 0)] * 5
    runtime._slots.give(4)


def test_a_claim_that_breaks_gives_its_place_back(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises: the queue must not become deaf, place by place."""
    claim = runtime._store.claim
    for broken in (ZeroDivisionError(), ConnectionError()):

        def breaks(*_: object, error: Exception = broken) -> None:
            raise error

        monkeypatch.setattr(runtime._store, "claim", breaks)
        with pytest.raises(type(broken)):
            runtime.handle(uuid4(), IDS[:1], "slow")
    monkeypatch.setattr(runtime._store, "claim", claim)

    assert runtime._slots.more(9) == 4
    runtime._slots.give(4)
    assert runtime._bounds["slow"].put(uuid4(), IDS) == 2


def test_a_message_that_comes_twice_waits_once() -> None:
    """A copy of what waits for long is sent by the reconciler: it is known already."""
    bound, ticket = Bound(1), uuid4()
    assert bound.put(ticket, IDS[:2]) == 1
    assert bound.put(ticket, IDS[:3]) == 0
    assert bound.put(uuid4(), IDS[:1]) == 0

    assert [bound.next() for _ in range(3)] == [(ticket, [each]) for each in IDS[:3]]
    assert (bound.next() or ("", []))[1] == IDS[:1]
    assert bound.next() is None


def test_what_is_put_while_a_lane_ends_is_not_forgotten() -> None:
    """Either the lane still takes it, or its place is free for whoever put it: many times at once."""
    bound, done = Bound(2), list[ActionId]()

    def run() -> None:
        while (batch := bound.next()) is not None:
            done.extend(batch[1])

    def put(number: int) -> None:
        for n in range(200):
            for _ in range(bound.put(uuid4(), [ActionId(UUID(int=number), n, 0)])):
                run()

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(done) == 800
    assert bound.put(uuid4(), IDS) == 2


def test_real_workers_keep_their_bounds(cluster: Cluster) -> None:
    """Given one worker for two queues, the slow one runs one effect at a time and the other queue goes on beside it."""
    cluster.env["FSM_QUEUES"] = "slow=1"
    cluster.relay()
    cluster.worker(queues="slow,default", slots=2)
    assert (
        cluster.ask("SELECT queues::text FROM fsm.workers WHERE kind = 'node'") == '{"slow": 1, "default": 2}'
    )
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go",) * 8, queue="slow"))
    eventually(lambda: running(notes(cluster.notes), "wait:go") == 1, what="the slow queue runs")

    cluster.store.advance(jobs, "a", Do(("quick",) * 8))
    eventually(
        lambda: notes(cluster.notes).count("end quick 1") == 8, timeout=30, what="the other queue is through"
    )
    assert cluster.ask("SELECT count(*) FROM fsm.actions WHERE status = 'running' AND queue = 'slow'") == 1
    cluster.open("go")

    assert {a.status for a in cluster.settled()} == {ActionStatus.COMPLETED}
    assert running(notes(cluster.notes), "wait:go") == 1


def test_the_whole_cluster_keeps_a_queues_limit_and_a_workers_kill_leaks_nothing(cluster: Cluster) -> None:
    """Given two workers and two relays, three run at a time; after a kill three run again."""
    cluster.store.limit("queue:default", max_running=3)
    for n in range(2):
        cluster.relay(f"relay{n}")
        cluster.worker(f"worker{n}")
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do(("wait:go",) * 12))
    busy = "SELECT count(*) FROM fsm.actions WHERE status = 'running'"
    eventually(lambda: cluster.ask(busy) == 3, timeout=30, what="three run")

    cluster.kill("worker0")
    lost = "SELECT count(*) FROM fsm.workers WHERE kind = 'node' AND dead_at IS NOT NULL"
    eventually(lambda: cluster.ask(lost) == 1, timeout=40, what="the killed worker is declared dead")
    eventually(
        lambda: (
            cluster.ask(
                "SELECT count(*) FROM fsm.actions a JOIN fsm.workers w ON w.id = a.worker_id"
                " WHERE a.status = 'running' AND w.dead_at IS NULL"
            )
            == 3
        ),
        timeout=40,
        what="three run again",
    )
    assert cluster.ask("SELECT count(*) FROM fsm.actions WHERE status IN ('published', 'running')") == 3
    cluster.open("go")
    assert {a.status for a in cluster.settled()} == {ActionStatus.COMPLETED}


@pytest.mark.parametrize("arguments", [["-P", "prefork", "-c", "3"], ["-c", "3"]])
def test_a_prefork_worker_says_that_it_cannot_keep_a_bound(
    tmp_path: Path, database_url: str, broker_url: str, arguments: list[str]
) -> None:
    """What waits in one child cannot know when another one has a place again: it ends with one line and a way out."""
    env = {
        **os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": database_url, "BROKER_URL": broker_url,
        "FSM_MACHINES": "examples.door:door", "FSM_QUEUES": "checkout=2",
    }  # fmt: skip
    argv = [sys.executable, "-m", "celery", "-A", "workers", "worker", "-Q", "checkout,default", *arguments]

    ended = subprocess.run(
        argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 1
    assert "fsm_queues: checkout has 2 of 3 slots" in ended.stderr
    assert "--queues checkout --concurrency 2" in ended.stderr


@pytest.mark.parametrize(
    ("text", "configured", "found"),
    [
        ("default=10,checkout=5", None, {"default": 10, "checkout": 5}),
        ("a=b=3", {"x": 1}, {"a=b": 3}),
        (None, {"default": 10}, {"default": 10}),
        (None, None, None),
    ],
)
def test_bounds_are_read(text: str | None, configured: object, found: object) -> None:
    """FSM_QUEUES goes before `fsm_queues`."""
    environ = {"DATABASE_URL": "postgresql://h/d"} | ({"FSM_QUEUES": text} if text else {})
    assert read({"fsm_queues": configured}, environ).queues == found


@pytest.mark.parametrize(
    ("text", "configured"),
    [
        ("default", None), ("default=", None), ("=5", None), ("default=0", None), ("default=-1", None), ("default=x", None),
        (None, {"default": 0}), (None, {"default": "5"}), (None, {"": 1}), (None, ["default"]), (None, {"default": True}),
    ],
)  # fmt: skip
def test_what_is_no_bound_is_refused(text: str | None, configured: object) -> None:
    """With the setting's name."""
    environ = {"DATABASE_URL": "postgresql://h/d"} | ({"FSM_QUEUES": text} if text else {})
    with pytest.raises(ConfigurationError, match="FSM_QUEUES" if text else "fsm_queues"):
        read({"fsm_queues": configured}, environ)
