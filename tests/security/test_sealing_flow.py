"""A whole flow with real workers: neither a dump of the database nor what passed through the broker shows what users wrote."""

import re
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
import redis
from sqlalchemy import text

from fsm_core import ActionStatus
from fsm_core.audit import fsck
from fsm_core.postgres import Cipher, PostgresStore
from fsm_core.registry import Registry
from fsm_core.steps import Done, Next
from tests.security.vault import (
    SECRET,
    Kept,
    Lock,
    Locked,
    Put,
    Whisper,
    Word,
    Work,
    begin,
    child,
    flow,
    part,
    vault,
)
from tests.waiting import eventually
from tests.workers.conftest import Cluster
from tests.workers.jobs import notes
from workers.dev.supervise import Supervisor

KEYS = {"2026-11": bytes(range(32)), "2025": bytes(32)}
KEYS_TEXT = ",".join(f"{name}:{b64encode(key).decode()}" for name, key in KEYS.items())
MACHINES = [vault, child, flow, part]


@pytest.fixture
def cluster(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Cluster]:
    """As the workers' tests have it, with keys."""
    with Supervisor(grace=15) as supervisor:
        cluster = Cluster(supervisor, database_url, broker_url, tmp_path)
        cluster.env |= {
            "FSM_MACHINES": " ".join(
                f"tests.security.vault:{each}" for each in ("effects", "child", "flow", "part")
            ),
            "FSM_PAYLOAD_KEYS": KEYS_TEXT,
        }
        cluster.store = PostgresStore(cluster.engine, machines=MACHINES, cipher=Cipher(KEYS))
        yield cluster
        cluster.engine.dispose()


def plainly(said: str) -> str:
    """What was said, and what is base64 in it decoded: so Celery packs a message."""
    packed = (found[: len(found) // 4 * 4] for found in re.findall(r"[A-Za-z0-9+/]{16,}", said))
    return "\n".join([said, *(b64decode(found).decode(errors="replace") for found in packed)])


class Overhearing:
    """Everything that anybody says to the broker."""

    def __init__(self, url: str) -> None:
        self.heard: list[str] = []
        self._client = redis.Redis.from_url(url, socket_timeout=None)
        self._listening, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._client.ping()  # the word that wakes it
        self._thread.join(10)
        self._client.close()

    def _listen(self) -> None:
        connection = self._client.connection_pool.get_connection()
        connection.send_command("MONITOR")
        connection.read_response()
        self._listening.set()
        while not self._over.is_set():
            self.heard.append(plainly(str(connection.read_response())))
        connection.disconnect()


def dump(cluster: Cluster) -> str:
    """Every row of every table, as a dump would have it."""
    with cluster.engine.connect() as connection:
        names = connection.execute(
            text("SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = 'fsm'")
        ).scalars()
        return "\n".join(
            str(row)
            for name in names
            for row in connection.execute(text(f"SELECT t::text FROM fsm.{name} t")).scalars()
        )


def shown(cluster: Cluster, what: str, query: str) -> None:
    try:
        eventually(lambda: cluster.ask(query), timeout=40, what=what)
    except TimeoutError as error:
        error.add_note(cluster.picture())
        raise


def all_kinds(cluster: Cluster) -> None:
    """Every way in which a secret may come to be kept."""
    store = cluster.store
    store.signal(vault, "v", Whisper(f"{SECRET} early"), dedup_key="early")
    store.start(vault, "v", Kept((SECRET,)))
    store.start(child, "sent")
    store.start(flow, "f", Next(begin, Work(SECRET)))
    store.signal(flow, "f", Word(f"{SECRET} word"))
    kinds = ("plain", "once", "never", "broken", "late", "tell", "timer", "alarm", "send", "child")
    for kind in kinds:
        store.advance(vault, "v", Put(kind, SECRET), dedup_key=kind)


def test_neither_dump_nor_broker_shows_what_users_wrote(cluster: Cluster) -> None:
    """Effects, retries, failures, timers, messages, children, held signals, refusals, steps, a late result: while it runs, and after."""
    with Overhearing(cluster.broker_url) as broker:
        cluster.relay()
        cluster.worker(slots=8)
        all_kinds(cluster)
        shown(
            cluster, "the flow has ended", "SELECT 1 FROM fsm.machines WHERE fsm = 'flow' AND status = 'done'"
        )
        shown(cluster, "a child has ended", "SELECT 1 FROM fsm.events WHERE name LIKE 'ChildEnded%'")
        shown(
            cluster, "one has failed", "SELECT 1 FROM fsm.actions WHERE status = 'failed' HAVING count(*) = 2"
        )
        eventually(lambda: "store late 1" in notes(cluster.notes), timeout=20, what="the late one runs")
        assert SECRET not in dump(cluster)

        (late,) = (a for a in cluster.store.actions(action="Store") if a.payload["kind"] == "late")
        cluster.store.cancel_action(late.id)
        cluster.open("late")
        shown(cluster, "its result is on record", "SELECT 1 FROM fsm.attempts WHERE late IS NOT NULL")
        cluster.store.advance(vault, "v", Lock(SECRET))
        (alarm,) = (a for a in cluster.store.actions(status="pending") if "alarm" in str(a.payload))
        cluster.store.cancel_action(alarm.id, "no alarm")
        cluster.settled()

    assert SECRET not in dump(cluster)
    assert not any(SECRET in said for said in broker.heard)
    assert any(f'"{late.id}"' in said for said in broker.heard)
    everything_is_there(cluster)


def everything_is_there(cluster: Cluster) -> None:
    """It was not only hidden: whoever has the keys reads all of it."""
    state = cluster.store.get(vault, "v").state
    assert isinstance(state, Locked)
    assert set(state.secrets) == {
        SECRET, f"{SECRET} plain", f"{SECRET} once", f"never {SECRET}", f"RuntimeError: broken {SECRET}",
        f"{SECRET} timer", f"{SECRET} {SECRET}",
    }  # fmt: skip
    end = cluster.store.get(flow, "f").state
    assert isinstance(end, Done)
    assert sorted(end.result["secrets"]) == [SECRET, f"{SECRET} word"]  # as the children ended
    refused = [e for e in cluster.store.history(vault, "v") if e.name == "Whisper"]
    assert [(e.outcome, e.reason) for e in refused] == [("ignored", f"no: {SECRET} early")]
    errors = {a.error for action in cluster.store.actions(limit=1000) for a in action.attempts}
    assert f"RuntimeError: not yet {SECRET}" in errors
    assert cluster.store.advance(vault, "v", Put("plain", SECRET), dedup_key="plain").duplicate
    registry = Registry(MACHINES)
    assert [fsck(log, registry).findings for log in cluster.store.logs()] == [[]] * 6


def test_a_worker_without_the_key_hands_back_what_it_cannot_read(cluster: Cluster) -> None:
    """An effect, a timer and a message: seen by whoever asks, no attempt is burned, and one that has the key does them."""
    keys = cluster.env.pop("FSM_PAYLOAD_KEYS")
    cluster.relay()
    cluster.worker("blind")
    cluster.store.start(vault, "v")
    cluster.store.start(child, "sent")
    for kind in ("plain", "timer", "send"):
        cluster.store.advance(vault, "v", Put(kind, SECRET))
    back = "SELECT 1 FROM fsm.actions WHERE note LIKE '%sealed: no key \"2026-11\" here%' HAVING count(*) = 3"
    shown(cluster, "all have come back", back)
    assert {a.attempt for a in cluster.store.actions()} == {0}
    assert notes(cluster.notes) == []

    cluster.supervisor.stop("blind")
    cluster.env["FSM_PAYLOAD_KEYS"] = keys
    cluster.worker("seeing")
    cluster.settled(timeout=60)

    assert {a.status for a in cluster.store.actions()} == {ActionStatus.COMPLETED}
    assert set(cluster.store.get(vault, "v").state.secrets) == {f"{SECRET} plain", f"{SECRET} timer"}
    assert cluster.store.get(child, "sent").seq == 1


def test_a_result_for_a_machine_that_the_worker_cannot_read_is_kept(cluster: Cluster) -> None:
    """Its effect does not run again: the next worker that has the key applies what it answered."""
    cluster.env["FSM_PAYLOAD_KEYS"] = KEYS_TEXT.rpartition(",")[2]
    old = PostgresStore(cluster.engine, machines=MACHINES, cipher=Cipher({"2025": KEYS["2025"]}))
    old.start(vault, "v")
    cluster.relay()
    cluster.worker("behind")
    old.advance(vault, "v", Put("late", SECRET))
    eventually(lambda: notes(cluster.notes) == ["store late 1"], timeout=20, what="the effect runs")
    cluster.store.advance(vault, "v", Put("tell", SECRET))
    cluster.open("late")
    kept = "SELECT 1 FROM fsm.actions WHERE outcome IS NOT NULL AND status IN ('pending', 'published')"
    shown(cluster, "its result is kept", kept)

    cluster.supervisor.stop("behind")
    cluster.env["FSM_PAYLOAD_KEYS"] = KEYS_TEXT
    cluster.worker("ahead")
    shown(cluster, "it is applied", "SELECT 1 FROM fsm.events WHERE name = 'Heard'")

    assert cluster.store.get(vault, "v").state == Kept((f"{SECRET} late",))
    assert notes(cluster.notes).count("store late 1") == 1
    assert "store late 2" not in notes(cluster.notes)
