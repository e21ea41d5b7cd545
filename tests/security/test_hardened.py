"""FSM_HARDENED=1, and a broker's user with few rights: nobody tells a worker anything but by a row, and it can still do its work."""

import os
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from sqlalchemy.engine import make_url

from fsm_core.errors import ConfigurationError
from tests.waiting import eventually
from tests.workers.conftest import Cluster
from tests.workers.jobs import Do, jobs
from workers import hardened
from workers.celery import create_app

PAGE = Path(__file__).parents[2] / "docs" / "security.md"


def start_worker(cluster: Cluster, *options: str) -> int:
    """As somebody who knows nothing of our defaults: Celery's own are all on."""
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "workers",
        "worker",
        "-P",
        "threads",
        "-c",
        "2",
        "-Q",
        "default",
    ]
    pid = cluster._start("worker", [*command, "-n", "worker@%h", *options])
    eventually(lambda: cluster.registered() > 0, timeout=60, what="the worker registers")
    return pid


def do(cluster: Cluster, plan: str) -> None:
    cluster.store.start(jobs, "a")
    cluster.store.advance(jobs, "a", Do((plan,)))
    cluster.settled(timeout=60)


def listening(cluster: Cluster) -> list[str]:
    """Whoever listens to channels of the test's own database of the broker."""
    number = make_url(cluster.broker_url).database
    with redis.Redis.from_url(cluster.broker_url) as client:
        return [
            each["addr"]
            for each in client.client_list()
            if each["db"] == number and (each["sub"] != "0" or each["psub"] != "0")
        ]


def shut_down(cluster: Cluster) -> None:
    """Tell all workers to end, as anybody can who reaches the broker."""
    app = create_app()
    app.conf.broker_url = cluster.broker_url
    with app.connection_for_write() as connection:
        app.control.broadcast(
            "rate_limit", {"task_name": "fsm.run", "rate_limit": "1/h"}, connection=connection
        )
        app.control.broadcast("shutdown", connection=connection)


def test_a_worker_that_may_be_controlled_can_be_ended_by_anybody(cluster: Cluster) -> None:
    """What the next test is about: the same broadcast ends a worker that is not hardened."""
    pid = start_worker(cluster)
    eventually(lambda: listening(cluster), what="it listens")

    shut_down(cluster)

    eventually(lambda: not alive(pid), timeout=60, what="it has ended")


def test_a_hardened_worker_listens_to_nobody(cluster: Cluster) -> None:
    """Although its command line asks for events, gossip and mingle."""
    cluster.env |= {"FSM_HARDENED": "1", "FSM_ALLOW_ROOT": "1", "FSM_FLOWER": "1"}
    cluster.relay()
    pid = start_worker(cluster, "-E")
    do(cluster, "one")
    assert listening(cluster) == []

    shut_down(cluster)
    do(cluster, "two")

    assert alive(pid)
    with redis.Redis.from_url(cluster.broker_url) as client:
        assert {key for key in client.keys("*") if b"celeryev" in key or b"pidbox" in key} == set()


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    addresses = ("postgresql://db/x", "redis://broker/0")

    hardened.check(*addresses, {})
    hardened.check(*addresses, {"FSM_HARDENED": "1", "FSM_ALLOW_ROOT": "1"})
    with pytest.raises(ConfigurationError, match="FSM_HARDENED: this process is root's"):
        hardened.check(*addresses, {"FSM_HARDENED": "1"})


@pytest.fixture
def limited_url(broker_url: str) -> Iterator[str]:
    """The broker as the user of whom docs/security.md speaks."""
    (line,) = re.findall(r"^ACL SETUSER .*$", PAGE.read_text(), re.MULTILINE)
    user, password = f"fsm{secrets.token_hex(4)}", secrets.token_hex(8)
    rights = [f">{password}" if part == ">PASSWORD" else part for part in line.split()[3:]]
    with redis.Redis.from_url(broker_url) as admin:
        admin.execute_command("ACL", "SETUSER", user, *rights)
        yield make_url(broker_url).set(username=user, password=password).render_as_string(hide_password=False)
        admin.execute_command("ACL", "DELUSER", user)


def test_everything_goes_on_under_a_user_with_few_rights(cluster: Cluster, limited_url: str) -> None:
    """The line of docs/security.md, and the prefix of which it speaks."""
    cluster.env |= {
        "BROKER_URL": limited_url, "FSM_HARDENED": "1", "FSM_ALLOW_ROOT": "1",
        "CELERY_CONFIG_MODULE": "tests.security.prefixed",
    }  # fmt: skip
    cluster.relay()
    start_worker(cluster)

    do(cluster, "raise|two")

    user = make_url(limited_url).username
    with redis.Redis.from_url(cluster.broker_url) as admin:
        assert [entry["object"] for entry in admin.acl_log() if entry["username"] == user] == []
        assert {key.split(b":")[0] for key in admin.keys("*")} == {b"fsm"}


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "GET", "*"), ("CONFIG", "SET", "maxmemory", "1"), ("KEYS", "*"), ("SCAN", "0"),
        ("SHUTDOWN",), ("ACL", "LIST"), ("EVAL", "return 1", "0"), ("SAVE",), ("MONITOR",),
        ("CLIENT", "LIST"), ("PUBLISH", "x", "y"), ("SUBSCRIBE", "x"), ("LPUSH", "other", "x"), ("LLEN", "default"),
        ("GET", "fsm:default"), ("DEL", "fsm:default"),
    ],
)  # fmt: skip
def test_that_user_may_do_nothing_else(limited_url: str, command: tuple[str, ...]) -> None:
    with redis.Redis.from_url(limited_url) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)
