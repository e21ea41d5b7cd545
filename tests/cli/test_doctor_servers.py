"""`fsm doctor` on sick servers: sessions, settings, brokers and rights; what is changed for it is put back."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, tzinfo
from importlib import import_module
from threading import Thread
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg import sql

from tests.cli.patient import Patient, patient
from tests.cli.support import Fsm
from tests.store.world import plain
from tests.waiting import eventually
from workers.dev.directory import private_directory
from workers.dev.postgres import postgres

__all__ = ["patient"]  # the fixture

BREAKS_THE_SERVER = pytest.mark.skipif(
    "DATABASE_URL" in os.environ, reason="changes the settings of the server, and this one is somebody's"
)
BREAKS_THE_BROKER = pytest.mark.skipif(
    "BROKER_URL" in os.environ, reason="changes the settings of the broker, and this one is somebody's"
)


# Faults of sessions


@contextmanager
def beside(patient: Patient, name: str) -> Iterator[psycopg.Connection]:
    """A session of somebody else's, in a transaction that has a snapshot."""
    with psycopg.connect(plain(patient.url), application_name=name) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT 1")
        yield connection


def test_a_session_that_is_idle_in_a_transaction_and_its_snapshot_are_named(patient: Patient) -> None:
    with beside(patient, "reports") as connection:
        pid = connection.info.backend_pid
        _, found = eventually(
            lambda: seen if len((seen := patient.examined("--patience", "1s"))[1]) > 1 else None,
            what="the session is found, and what it keeps; its snapshot is a little older than its idleness",
        )
        assert found["idle-in-transaction"][0].startswith(
            f"warning: session {pid} (reports) is idle in a transaction"
        )
        assert found["old-snapshot"][0].startswith(f"warning: session {pid} (reports) keeps all rows")
        assert patient.examined()[1] == {}  # a minute has not passed
    assert patient.examined("--patience", "1s")[1] == {}


def test_a_query_that_runs_for_long_is_named(patient: Patient) -> None:
    """It waits for a lock that we hold, and so runs for as long as we like."""

    def wait() -> None:
        with psycopg.connect(plain(patient.url), application_name="slow report") as connection:
            connection.execute("SELECT pg_advisory_xact_lock(7)")

    thread = Thread(target=wait)
    with psycopg.connect(plain(patient.url), autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(7)")
        thread.start()
        _, found = eventually(
            lambda: seen if "long-query" in (seen := patient.examined("--patience", "1s"))[1] else None,
            what="the query is found",
        )
    thread.join()
    assert "(slow report) runs a query in a transaction of" in found["long-query"][0]


def test_too_few_connections_are_told_before_there_are_none(patient: Patient) -> None:
    """Opens as many as there are, up to four fifths."""
    with psycopg.connect(plain(patient.url)) as connection:
        row = connection.execute("SHOW max_connections").fetchone()
    assert row is not None
    with ExitStack() as stack:
        for _ in range(int(int(row[0]) * 0.8)):
            stack.enter_context(psycopg.connect(plain(patient.url)))
        _, found = patient.examined()
    assert "connections are in use" in found["connections"][0]


@pytest.mark.parametrize(("ahead", "way"), [(60, "60 s ahead of"), (-60, "60 s behind")])
def test_a_clock_that_is_wrong_here_is_told(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, ahead: int, way: str
) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=ahead)

    monkeypatch.setattr(import_module("workers.doctor.examine"), "datetime", Wrong)

    answer, found = patient.examined()

    assert found["clock"][0].startswith(f"warning: this host's clock is {way} the database's")
    assert answer.status == 0


def test_a_prepared_transaction_that_nobody_ends_is_named(
    fsm: Fsm, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server of its own: those of the tests allow none."""
    monkeypatch.setenv("BROKER_URL", broker_url)
    settings = {"max_prepared_transactions": "1"}
    with private_directory() as directory, postgres(directory, settings) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        with psycopg.connect(plain(url)) as connection:
            connection.execute("CREATE TABLE batch ()")
            connection.execute("PREPARE TRANSACTION 'nightly'")

        def found() -> list[str]:
            everything = fsm("doctor", "--json", "--patience", "1s").json
            return [each["message"] for each in everything if each["code"] == "prepared-transaction"]

        (said,) = eventually(lambda: None if "no " in (seen := found())[0] else seen, what="it is found")
        assert said.startswith("transaction 'nightly' of postgres is prepared since ")


# Faults of the server's settings


@BREAKS_THE_SERVER
@pytest.mark.parametrize(
    ("setting", "code", "severity"),
    [("fsync", "fsync", "error"), ("full_page_writes", "full-page-writes", "error"), ("autovacuum", "autovacuum", "warning")],
)  # fmt: skip
def test_a_setting_that_costs_durability_is_named(
    patient: Patient, setting: str, code: str, severity: str
) -> None:
    def reloaded() -> None:
        patient.sql("SELECT pg_reload_conf()")

    patient.sql(f"ALTER SYSTEM SET {setting} = off")
    try:
        reloaded()
        answer, found = eventually(
            lambda: seen if code in (seen := patient.examined())[1] else None, what=f"{setting} is off"
        )
        assert found[code][0].startswith(f"{severity}: {setting} is off")
        assert answer.status == (severity == "error")
    finally:
        patient.sql(f"ALTER SYSTEM RESET {setting}")
        reloaded()
    eventually(lambda: patient.examined()[1] == {}, what="it is well again")


def test_commits_that_do_not_wait_for_the_disk_are_an_error(patient: Patient) -> None:
    """Also where only this database says so."""
    with psycopg.connect(plain(patient.url), autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))

    answer, found = patient.examined()

    assert answer.status == 1
    assert found["synchronous-commit"][0].startswith("error: synchronous_commit is off")


# Faults of the broker


@BREAKS_THE_BROKER
@pytest.mark.parametrize(("policy", "severity", "status"), [("allkeys-lru", "error", 1), ("volatile-ttl", "warning", 0)])  # fmt: skip
def test_a_broker_that_deletes_queues_is_named(
    patient: Patient, broker_url: str, policy: str, severity: str, status: int
) -> None:
    with redis.Redis.from_url(broker_url) as client:
        client.config_set("maxmemory-policy", policy)
        try:
            answer, found = patient.examined()
        finally:
            client.config_set("maxmemory-policy", "noeviction")

    assert answer.status == status
    assert found["broker-eviction"][0].startswith(f"{severity}: when it is full it deletes")


@BREAKS_THE_BROKER
def test_a_broker_that_may_not_be_asked_is_not_guessed_at(
    patient: Patient, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its user may do what a worker does, and not INFO: that is said, and everything else goes on."""
    with redis.Redis.from_url(broker_url) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-info")
        monkeypatch.setenv("BROKER_URL", broker_url.replace("://", "://app:secret@"))
        try:
            answer, found = patient.examined()
        finally:
            client.execute_command("ACL", "DELUSER", "app")

    assert answer.status == 0
    assert list(found) == ["not-checked"]
    assert "the broker does not say what it deletes" in found["not-checked"][0]
    assert "secret" not in answer.out


def test_a_broker_that_is_away_is_an_error_among_others(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_URL", "redis://app:secret@127.0.0.1:1/0")
    patient.outbox.retire(patient.relay)

    answer, found = patient.examined()

    assert answer.status == 1
    assert found["broker"][0].startswith("error: the broker does not answer")
    assert "relay" in found
    assert "secret" not in answer.out


def test_a_database_that_is_away_is_an_error_among_others(
    fsm: Fsm, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:secret@127.0.0.1:1/app")
    monkeypatch.setenv("BROKER_URL", broker_url)

    answer = fsm("doctor")

    assert (answer.status, answer.err) == (1, "")
    assert answer.out.splitlines()[0].startswith("error    database: the database does not answer")
    assert "ok       broker:" in answer.out
    assert "secret" not in answer.out


# What may not be looked at


@contextmanager
def stranger(patient: Patient) -> Iterator[str]:
    """The address of the database for a role that may do nothing there."""
    name = f"stranger_{uuid4().hex[:8]}"
    with psycopg.connect(plain(patient.url), autocommit=True) as connection:
        role = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(role))
        try:
            info = connection.info
            yield f"postgresql://{name}:x@/{info.dbname}?host={info.host}&port={info.port}"
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))


def test_what_a_role_may_not_see_is_told_and_the_rest_goes_on(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stranger(patient) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        answer, found = patient.examined()
        strict = patient.fsm("doctor", "--strict")

    said = "\n".join(found["not-checked"])
    assert list(found) == ["not-checked"]
    assert "warning: the revision of the schema cannot be looked at: permission denied for schema fsm" in said
    assert "warning: lanes cannot be looked at: permission denied" in said
    assert "sessions of other roles are not shown" in said
    assert (answer.status, strict.status) == (0, 1)
    assert "ok       fsync" in strict.out
    assert "ok       broker" in strict.out


@pytest.mark.parametrize("span", ["soon", "60", ""])
def test_a_wrong_span_is_one_line(patient: Patient, span: str) -> None:
    status, out, err = patient.fsm("doctor", "--patience", span)

    assert (status, out) == (2, "")
    assert err.startswith("fsm: ")
    assert err.count("\n") == 1
