"""Each process under a login of its own: everything goes on, and nobody may do what is another's."""

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import Engine, create_engine

from fsm_core import ActionStatus, Snapshot
from fsm_core.delivery.retention import KEEP_ALL, Retention
from fsm_core.errors import DatabaseError
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.engine import own_engine
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.roles import Role
from tests.security.conftest import Logins, plain
from tests.security.voyage import Dock, Home, Sail, boat, voyage
from tests.store.aging import grow_old
from tests.store.world import PostgresWorld
from tests.waiting import eventually
from tests.workers.conftest import Cluster
from workers.cli.main import main


@pytest.fixture
def store(engine: Engine) -> PostgresStore:
    """The owner's."""
    return PostgresStore(engine, machines=[voyage, boat])


@pytest.fixture
def stores(logins: Logins) -> Iterator[dict[Role, PostgresStore]]:
    """A store for each role that an application or an operator may have."""
    engines = {role: create_engine(logins.url(role)) for role in Role}
    yield {role: PostgresStore(engine, machines=[voyage, boat]) for role, engine in engines.items()}
    for engine in engines.values():
        engine.dispose()


def start_processes(cluster: Cluster, logins: Logins) -> None:
    cluster.env["FSM_MACHINES"] = "tests.security.voyage:effects tests.security.voyage:boat"
    cluster.env["DATABASE_URL"] = logins.url(Role.RELAY)
    cluster.relay()
    cluster.env["DATABASE_URL"] = logins.url(Role.WORKER)
    cluster.worker()


def test_a_flow_from_start_to_prune(
    logins: Logins,
    stores: dict[Role, PostgresStore],
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Births, signals, timers, limits, retries, failures, children, messages, waiting; then looking, operating, deleting."""
    app, operator, reader = stores[Role.SUBMITTER], stores[Role.OPERATOR], stores[Role.READER]
    operator.limit("pier", max_running=1)
    start_processes(cluster, logins)

    for key in ("kept", "docked"):
        app.start(voyage, key)
        app.advance(voyage, key, Sail(key))
    app.signal(voyage, "docked", Dock("x"), dedup_key="d1")
    app.signal(voyage, "unborn", Dock("x"))
    app.cancel(voyage, app.start(voyage, "cancelled").key)
    try:
        ended = app.wait(voyage, "docked", timedelta(seconds=40))
        eventually(lambda: app.get(boat, "docked").status == "done", timeout=20, what="the boat is ashore")
    except TimeoutError as error:
        error.add_note(cluster.picture())
        raise
    cluster.settled()
    assert ended.state == Home("x")
    (late,) = app.advance_many(voyage, [("kept", Sail("late"))])
    assert isinstance(late, Snapshot)

    (failed,) = reader.actions(machine="voyage", key="kept", status=ActionStatus.FAILED)
    assert {a.name for e in reader.history(voyage, "kept") for a in e.actions} >= {
        "Land",
        "Scrub",
        "Spawn",
        "Send",
    }
    monkeypatch.setenv("FSM_MACHINES", cluster.env["FSM_MACHINES"])
    monkeypatch.setenv("DATABASE_URL", logins.url(Role.READER))
    assert (main(["fsck"]), capfd.readouterr().err) == (0, "")
    assert main(["explain", "voyage/kept"]) == 0
    assert main(["migrate", "status"]) == 0
    operator.retry([failed.id])
    cluster.settled()
    assert reader.action(failed.id).attempt == 2

    grow_old(PostgresWorld(cluster.store, plain(cluster.database_url)), 90)
    pruned = stores[Role.PRUNER].prune(Retention(timedelta(days=1), timedelta(days=2)), live=True)
    assert (pruned.machines, pruned.forgotten, pruned.unborn, pruned.cut) == (4, 4, 1, 1)
    assert [(m.machine, m.key) for m in reader.machines()] == [("voyage", "kept")]


def test_what_is_anothers_is_refused_with_one_line(
    stores: dict[Role, PostgresStore], store: PostgresStore, database_url: str
) -> None:
    """And leaves nothing behind."""
    stores[Role.SUBMITTER].start(voyage, "old")
    stores[Role.SUBMITTER].cancel(voyage, "old")
    grow_old(PostgresWorld(store, plain(database_url)), 90)
    stores[Role.SUBMITTER].start(voyage, "v")
    calls = {
        Role.READER: lambda s: s.advance(voyage, "v", Sail("x")),
        Role.RELAY: lambda s: s.get(voyage, "v"),
        Role.PRUNER: lambda s: s.start(voyage, "w"),
        Role.SUBMITTER: lambda s: s.limit("pier", max_running=1),
        Role.OPERATOR: lambda s: s.prune(Retention(timedelta(days=1))),
        Role.WORKER: lambda s: s.history(voyage, "v"),
    }
    assert set(calls) == set(Role)

    for role, call in calls.items():
        with pytest.raises(DatabaseError, match="permission denied") as caught:
            call(stores[role])
        assert "\n" not in str(caught.value), role
    assert stores[Role.SUBMITTER].get(voyage, "v").seq == 0


def test_a_relay_prunes_only_if_it_is_a_pruner_too(logins: Logins) -> None:
    kept = Retention(timedelta(days=1), timedelta(days=2))
    relay = PostgresOutbox(own_engine(logins.url(Role.RELAY)))
    both = PostgresOutbox(own_engine(logins.url(Role.RELAY, Role.PRUNER)))
    try:
        relay.prune(KEEP_ALL)
        with pytest.raises(DatabaseError, match="permission denied"):
            relay.prune(kept)
        both.prune(kept)
    finally:
        relay.close()
        both.close()


def test_the_command_makes_logins(
    logins: Logins, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", logins.database_url)
    user = f"{logins.prefix}cli"
    logins.made.append(user)

    assert main(["roles", "--prefix", logins.prefix, "--login", f"{user}=relay,pruner", "--apply"]) == 0
    with psycopg.connect(plain(logins.database_url)) as connection:
        found = connection.execute(
            "SELECT array_agg(roleid::regrole::text ORDER BY roleid::regrole::text) FROM pg_auth_members WHERE member = %s::regrole",
            (user,),
        ).fetchone()
    assert found == ([logins.name(Role.PRUNER), logins.name(Role.RELAY)],)
    capfd.readouterr()

    assert main(["roles"]) == 0
    assert capfd.readouterr().out.startswith("BEGIN;\n")


@pytest.mark.parametrize("login", ["x", "=relay", "x=", "x=owner", "x=relay,", "x=relay,owner"])
def test_a_login_that_says_nothing_is_refused(
    login: str, logins: Logins, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", logins.database_url)

    assert main(["roles", "--prefix", logins.prefix, "--login", login, "--apply"]) == 2
    assert "--login is USER=ROLE" in capfd.readouterr().err
