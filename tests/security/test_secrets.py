"""What is nobody else's business is in no other column, log, message or process list than where it was put."""

import secrets
from collections.abc import Iterator

import psutil
import psycopg
import pytest
import redis
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from fsm_core.delivery.outcome import ERROR_TEXT, describe
from fsm_core.errors import DatabaseUnavailable, Permanent
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.tables import build
from tests.security.conftest import plain
from tests.security.voyage import Sail, voyage
from tests.waiting import eventually
from tests.workers.conftest import Cluster

PAYLOADS = {
    "machines.state", "events.payload", "actions.payload", "actions.outcome", "inbox.payload", "snapshots.state", "attempts.late",
}  # fmt: skip
"""Where a payload may stand, in the clear unless it is sealed (docs/encryption.md)."""

CANARY = "canary"
IN_PAYLOAD, IN_URL, IN_ENV, IN_DATABASE, IN_BROKER = (
    f"{CANARY}-{where}" for where in ("payload", "url", "env", "dsn", "broker")
)


@pytest.fixture
def broker_with_password(broker_url: str) -> Iterator[str]:
    user = f"u{secrets.token_hex(4)}"
    with redis.Redis.from_url(broker_url) as admin:
        admin.execute_command("ACL", "SETUSER", user, "on", f">{IN_BROKER}", "~*", "&*", "+@all")
        yield (
            make_url(broker_url).set(username=user, password=IN_BROKER).render_as_string(hide_password=False)
        )
        admin.execute_command("ACL", "DELUSER", user)


def columns_with(cluster: Cluster, text: str) -> set[str]:
    """The columns of all tables in which it stands."""
    found = set()
    with psycopg.connect(plain(cluster.database_url)) as connection:
        for table in build("fsm").tables.values():
            for column in table.columns:
                query = f"SELECT 1 FROM fsm.{table.name} WHERE {column.name}::text LIKE %s LIMIT 1"
                if connection.execute(query.encode(), (f"%{text}%",)).fetchone():
                    found.add(f"{table.name}.{column.name}")
    return found


def test_a_whole_flow_shows_no_secret(cluster: Cluster, broker_with_password: str) -> None:
    """Results, retries, failures, timers, children; a password in an exception's text; addresses with passwords."""
    database = make_url(cluster.database_url).set(password=IN_DATABASE)
    password_matters = make_url(cluster.database_url).password is not None
    cluster.env |= {
        "FSM_MACHINES": "tests.security.voyage:effects tests.security.voyage:boat",
        "DATABASE_URL": cluster.database_url
        if password_matters
        else database.render_as_string(hide_password=False),
        "BROKER_URL": broker_with_password,
        "VOYAGE_URL": f"https://user:{IN_URL}@harbour/x",
        "SOME_TOKEN": IN_ENV,
        "FSM_LEASE": "60",  # the worker is stopped for a moment
    }
    cluster.store.limit("pier", max_running=5)
    messages: list[bytes] = []
    cluster.relay()
    pid = cluster.worker(pool="prefork", slots=1)
    cluster.store.start(voyage, "v")
    with redis.Redis.from_url(cluster.broker_url) as client:
        psutil.Process(pid).suspend()  # so that messages can be seen
        try:
            cluster.store.advance(voyage, "v", Sail(IN_PAYLOAD))
            eventually(lambda: client.llen("default") > 0, timeout=20, what="a message waits")
            messages += client.lrange("default", 0, -1)
            lines = [" ".join(each.cmdline()) for each in family()]
            keys = client.keys("*")
        finally:
            psutil.Process(pid).resume()
    ended = "SELECT count(*) FROM fsm.machines WHERE fsm = 'boat' AND status = 'done'"
    eventually(lambda: cluster.ask(ended) == 1, timeout=60, what="the boat is ashore")
    cluster.settled(timeout=60)

    assert columns_with(cluster, IN_PAYLOAD) >= {"machines.state", "events.payload", "actions.payload"}
    assert columns_with(cluster, CANARY) <= PAYLOADS
    errors = {
        str(cluster.ask("SELECT error ->> 'message' FROM fsm.attempts WHERE outcome = 'error' LIMIT 1"))
    }
    assert errors == {"OSError: no answer from https://user:***@harbour/x"}
    assert messages
    assert [text for text in (*messages, *keys) if CANARY.encode() in text] == []
    assert len(lines) >= 3
    assert [line for line in lines if CANARY in line] == []
    logs = {log.name: log.read_text() for log in cluster.folder.glob("*.log")}
    assert set(logs) == {"relay.log", "worker.log"}
    assert [line for log in logs.values() for line in log.splitlines() if CANARY in line] == []


def family() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    engine = create_engine(f"postgresql+psycopg://user:{IN_DATABASE}@127.0.0.1:1/x?password={IN_DATABASE}")
    with pytest.raises(DatabaseUnavailable) as caught:
        PostgresStore(engine).get(voyage, "v")
    engine.dispose()

    assert CANARY not in f"{caught.value!r} {caught.value} {caught.value.__dict__}"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("redis://:pw@h/0 refused", "redis://:***@h/0 refused"),
        ("postgresql://u:p:w/x@h:5/d", "postgresql://u:***@h:5/d"),
        ("https://u:a@h and https://u:b@h", "https://u:***@h and https://u:***@h"),
        ("http://h:80/x@y", "http://h:***@y"),
        ("mail to a@b", "mail to a@b"),
        ("http://h/a", "http://h/a"),
    ],
)
def test_passwords_in_addresses_are_masked(said: str, kept: str) -> None:
    assert describe(Permanent(said)) == kept
    assert describe(OSError(said)) == f"OSError: {kept}"


def test_a_long_text_is_cut_after_it_was_masked() -> None:
    long = "x" * (ERROR_TEXT - 20) + " redis://u:secret@h"

    assert "secret" not in describe(Permanent(long))
    assert len(describe(OSError("://:" * 500_000))) == ERROR_TEXT
