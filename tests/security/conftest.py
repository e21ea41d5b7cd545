"""Logins in the database: roles belong to the whole server, so each test has names of its own."""

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url

from fsm_core.postgres.roles import Role, apply
from tests.workers.conftest import cluster

__all__ = ["cluster"]


def plain(url: str) -> str:
    """The address as psycopg has it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


class Logins:
    """The roles of one test's database, and users with them."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.prefix = f"t{secrets.token_hex(4)}_"
        self.made: list[str] = []

    def grant(self) -> None:
        apply(self.database_url, prefix=self.prefix)

    def name(self, role: Role) -> str:
        return f"{self.prefix}{role}"

    def url(self, *roles: Role) -> str:
        """The address for a new user with these roles."""
        user, password = f"{self.prefix}login{len(self.made)}", secrets.token_hex(8)
        self.made.append(user)
        apply(self.database_url, prefix=self.prefix, logins={user: roles})
        with psycopg.connect(plain(self.database_url), autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(user), sql.Literal(password))
            )
        return (
            make_url(self.database_url)
            .set(username=user, password=password)
            .render_as_string(hide_password=False)
        )

    def drop(self) -> None:
        with psycopg.connect(plain(self.database_url), autocommit=True) as connection:
            for name in (*self.made, *map(self.name, Role)):
                found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone()
                if found:
                    connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
                    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def logins(database_url: str) -> Iterator[Logins]:
    logins = Logins(database_url)
    try:
        logins.grant()
        yield logins
    finally:
        logins.drop()
