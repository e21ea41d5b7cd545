"""Roles in the database: each may do what its statements need, and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from fsm_core.errors import ConfigurationError, SchemaError
from fsm_core.postgres.roles import MATRIX, TIMEOUTS, Grant, Role, apply, statements
from tests.security.conftest import Logins, plain
from tests.security.matrix import documented
from tests.security.runs import OWNERS, RUNS, STATEMENTS, explained

PAGE = Path(__file__).parents[2] / "docs" / "security.md"


@pytest.fixture
def connection(logins: Logins) -> Iterator[psycopg.Connection[Any]]:
    """The owner's; whatever is changed through it is taken back."""
    with psycopg.connect(plain(logins.database_url), prepare_threshold=None) as connection:
        yield connection
        connection.rollback()


def refused(connection: psycopg.Connection[Any], role: str, names: set[str]) -> list[str]:
    """Those of the statements that `role` may not run."""
    missing = []
    for name in sorted(names):
        text = explained(STATEMENTS[name])
        if text is None:
            continue
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
                connection.execute(text.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            missing.append(f"{name}: {error}")
        finally:
            connection.execute("RESET ROLE")
    return missing


def single(grants: dict[str, Grant]) -> Iterator[tuple[str, str]]:
    """Each single right, as (what, on which table)."""
    for table, grant in grants.items():
        for verb in ("select", "insert", "update", "delete"):
            given = getattr(grant, verb)
            if given is True:
                yield verb, table
            elif given:
                yield from ((f"{verb} ({column})", table) for column in given)


def test_every_statement_is_somebodys() -> None:
    assert set(STATEMENTS) - OWNERS.union(*RUNS.values()) == set()


@pytest.mark.parametrize("role", Role)
def test_a_role_may_run_its_statements(
    role: Role, logins: Logins, connection: psycopg.Connection[Any]
) -> None:
    assert refused(connection, logins.name(role), RUNS[role]) == []


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.READER}))
def test_a_role_needs_each_of_its_grants(
    role: Role, logins: Logins, connection: psycopg.Connection[Any]
) -> None:
    name = logins.name(role)
    looks = (
        MATRIX[Role.READER] if role is Role.OPERATOR else {}
    )  # it may look at everything, whatever it needs
    idle = []
    for right, table in single(dict(MATRIX[role])):
        if right == "select" and table in looks:
            continue
        target = sql.SQL("{} ON {}").format(sql.SQL(right), sql.Identifier("fsm", table))  # type: ignore[arg-type]
        connection.execute(sql.SQL("REVOKE {} FROM {}").format(target, sql.Identifier(name)))
        concerned = {each for each in RUNS[role] if f".{table}" in STATEMENTS[each].on("fsm")}
        if not refused(connection, name, concerned):
            idle.append(f"{right} on {table}")
        connection.execute(sql.SQL("GRANT {} TO {}").format(target, sql.Identifier(name)))

    assert idle == []


def test_the_page_shows_the_matrix_of_the_database(
    logins: Logins, connection: psycopg.Connection[Any]
) -> None:
    assert documented(connection, logins.prefix) in PAGE.read_text()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    "text", ["UPDATE fsm.events SET payload = '{}'", "TRUNCATE fsm.events", "DROP TABLE fsm.events"]
)
def test_nobody_but_the_owner_changes_an_event(
    role: Role, text: str, logins: Logins, connection: psycopg.Connection[Any]
) -> None:
    connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(logins.name(role))))

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(text.encode())


def test_a_relay_reads_no_payload(logins: Logins) -> None:
    hidden = {"machines": ["state"], "actions": ["payload", "outcome", "error"], "events": ["payload"], "inbox": ["payload"]}  # fmt: skip
    with psycopg.connect(plain(logins.url(Role.RELAY)), autocommit=True) as relay:
        for table, columns in hidden.items():
            for column in columns:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    relay.execute(
                        sql.SQL("SELECT {} FROM {}").format(
                            sql.Identifier(column), sql.Identifier("fsm", table)
                        )
                    )


def test_granting_again_takes_back_what_was_granted_by_hand(
    logins: Logins, connection: psycopg.Connection[Any]
) -> None:
    before = documented(connection, logins.prefix)
    relay = sql.Identifier(logins.name(Role.RELAY))
    connection.execute(sql.SQL("GRANT ALL ON fsm.events TO {}").format(relay))
    connection.execute(sql.SQL("GRANT SELECT (payload) ON fsm.actions TO {}").format(relay))
    connection.commit()
    assert documented(connection, logins.prefix) != before
    connection.commit()

    logins.grant()

    assert documented(connection, logins.prefix) == before


def test_what_is_printed_is_what_is_applied(logins: Logins, connection: psycopg.Connection[Any]) -> None:
    before = documented(connection, logins.prefix)
    connection.execute(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA fsm FROM {}").format(
        sql.Identifier(logins.name(Role.WORKER))
    ))  # fmt: skip
    for statement in statements(prefix=logins.prefix):
        connection.execute(statement.encode())

    assert documented(connection, logins.prefix) == before


@pytest.mark.parametrize(
    ("roles", "counts"),
    [
        ((Role.SUBMITTER,), Role.SUBMITTER),
        ((Role.RELAY, Role.PRUNER), Role.PRUNER),
        ((Role.READER, Role.SUBMITTER), Role.READER),
    ],
)
def test_a_login_has_the_timeouts_of_its_roles(roles: tuple[Role, ...], counts: Role, logins: Logins) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    wanted = TIMEOUTS[counts]
    spans = (wanted.statement, wanted.lock, wanted.idle_in_transaction)
    with psycopg.connect(plain(logins.url(*roles))) as login:
        for name, span in zip(names, spans, strict=True):
            row = login.execute(
                "SELECT current_setting(%s)::interval = %s::interval", (name, span)
            ).fetchone()
            assert row == (True,), name


def test_a_login_has_no_role_that_it_is_not_given_again(logins: Logins) -> None:
    """Granted anew with less, it may do less."""
    url = logins.url(Role.RELAY, Role.OPERATOR)
    (user,) = logins.made
    with psycopg.connect(plain(url), autocommit=True) as login:
        login.execute("SELECT payload FROM fsm.events")

        apply(logins.database_url, prefix=logins.prefix, logins={user: [Role.RELAY]})

        login.execute("SELECT id FROM fsm.machines")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.execute("SELECT payload FROM fsm.events")


def test_names_are_quoted(logins: Logins, connection: psycopg.Connection[Any]) -> None:
    hostile = f"{logins.prefix}x\"; DROP SCHEMA fsm CASCADE; --'$$"
    try:
        apply(logins.database_url, prefix=hostile)

        assert documented(connection, hostile) == documented(connection, logins.prefix)
    finally:
        connection.rollback()
        for role in Role:
            name = sql.Identifier(f"{hostile}{role}")
            connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
            connection.execute(sql.SQL("DROP ROLE {}").format(name))
        connection.commit()


@pytest.mark.parametrize("prefix", ["x" * 60, "nul\0"])
def test_a_name_that_would_be_cut_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="no role can be called"):
        statements(prefix=prefix)


def test_without_tables_nothing_is_changed(empty_database_url: str) -> None:
    prefix = "tempty_"
    with pytest.raises(SchemaError, match="fsm migrate"):
        apply(empty_database_url, prefix=prefix)

    with psycopg.connect(plain(empty_database_url)) as connection:
        found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname LIKE 'tempty%'").fetchone()
    assert found is None
