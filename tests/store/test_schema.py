"""The schema that the migrations make is the one that `tables` describes, and its invariants hold."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from examples.door import SEVEN, Locked, door
from fsm_core.errors import DatabaseUnavailable
from fsm_core.postgres import PostgresStore, tables
from fsm_core.postgres.migrate import downgrade, status, upgrade
from tests.store.checks import CHECKS, TABLES_OF
from tests.store.world import plain
from tests.waiting import eventually

CATALOG = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text,
               pg_get_expr(d.adbin, d.adrelid)
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
         WHERE c.relnamespace = 'fsm'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), condeferrable
          FROM pg_constraint WHERE connamespace = 'fsm'::regnamespace""",
    "indexes": """
        SELECT c.relname, pg_get_indexdef(i.indexrelid), c.reloptions
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'fsm'::regnamespace""",
    "relations": """
        SELECT relname, relkind::text, reloptions, relpersistence::text FROM pg_class
         WHERE relnamespace = 'fsm'::regnamespace AND relkind IN ('r', 'v', 'S', 'm', 'p')""",
    "triggers": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    "functions": "SELECT proname FROM pg_proc WHERE pronamespace = 'fsm'::regnamespace",
}


def catalog(url: str) -> dict[str, set[Any]]:
    """What the schema is made of, the version table apart."""
    with psycopg.connect(plain(url)) as connection:
        found = {what: connection.execute(query.encode()).fetchall() for what, query in CATALOG.items()}
    return {
        what: {str(row) for row in rows if "schema_version" not in str(row)} for what, rows in found.items()
    }


def tables_of(url: str, schema: str = "fsm") -> set[str]:
    with psycopg.connect(plain(url)) as connection:
        rows = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]
        ).fetchall()
    return {row[0] for row in rows}


def test_the_migrations_make_what_the_tables_describe(empty_database_url: str, database_url: str) -> None:
    """Columns, types, defaults, constraints, indexes and options, as PostgreSQL itself writes them."""
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA fsm"))
        tables.build("fsm").create_all(connection)
    engine.dispose()

    described, migrated = catalog(empty_database_url), catalog(database_url)

    assert migrated == described
    assert len(described["columns"]) > 90
    assert len(described["constraints"]) > 50


def test_up_down_and_up_again(empty_database_url: str, database_url: str) -> None:
    """Down leaves nothing but the version table; up again is as good as new."""
    assert status(empty_database_url)[0] is None
    upgrade(empty_database_url)
    found, needed = status(empty_database_url)
    assert found == needed
    first = catalog(empty_database_url)

    downgrade(empty_database_url, "base")
    assert tables_of(empty_database_url) == {"schema_version"}
    assert status(empty_database_url)[0] is None

    upgrade(empty_database_url)
    upgrade(empty_database_url)
    assert catalog(empty_database_url) == first == catalog(database_url)


@pytest.mark.parametrize("schema", ["shop", "Odd Näme", 'quo"ted'])
def test_the_tables_may_be_in_another_schema(empty_database_url: str, schema: str) -> None:
    """Migrations and store take its name; two schemas of one database are two worlds."""
    upgrade(empty_database_url, schema=schema)
    upgrade(empty_database_url)
    engine = create_engine(empty_database_url)
    store, other = PostgresStore(engine, schema=schema), PostgresStore(engine)
    store.start(door, "front")
    for event in SEVEN:
        store.advance(door, "front", event)

    assert store.get(door, "front").state == Locked(4567, 2)
    assert len(store.history(door, "front")) == 8
    assert other.machines() == []
    engine.dispose()
    downgrade(empty_database_url, "base", schema=schema)
    assert tables_of(empty_database_url, schema) == {"schema_version"}
    assert len(tables_of(empty_database_url)) == len(tables_of_metadata()) + 1


def tables_of_metadata() -> set[str]:
    return set(tables.build("fsm").tables)


OWN_ENV = """
from alembic import context
from sqlalchemy import NullPool, create_engine

with create_engine(context.config.get_main_option("url"), poolclass=NullPool).begin() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""

OWN_VERSION = """
import sqlalchemy as sa
from alembic import op
from fsm_core.postgres import migrate
revision, down_revision, branch_labels, depends_on = "a1", None, None, None

def upgrade():
    op.create_table("before", sa.Column("id", sa.Integer(), primary_key=True))
    migrate.upgrade(op.get_bind())
    op.create_table("after", sa.Column("id", sa.Integer(), primary_key=True))

def downgrade():
    op.drop_table("after")
    migrate.downgrade(op.get_bind(), "base")
    op.drop_table("before")
"""


def test_the_tables_may_come_with_a_tree_of_ones_own(
    empty_database_url: str, database_url: str, tmp_path: Path
) -> None:
    """A callable for somebody else's migration: in its transaction, and its own `op` works on afterwards."""
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(OWN_ENV)
    (tmp_path / "versions" / "a1.py").write_text(OWN_VERSION)
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    config.set_main_option("url", empty_database_url.replace("%", "%%"))

    command.upgrade(config, "head")
    assert catalog(empty_database_url) == catalog(database_url)
    assert {"before", "after"} <= tables_of(empty_database_url, "public")

    command.downgrade(config, "base")
    assert tables_of(empty_database_url) == {"schema_version"}
    assert not {"before", "after"} & tables_of(empty_database_url, "public")


def test_a_tree_of_ones_own_that_fails_takes_the_tables_with_it(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url)
    with engine.connect() as connection:
        upgrade(connection)
        connection.rollback()
    engine.dispose()
    assert tables_of(empty_database_url) == set()


def test_two_processes_may_upgrade_at_once(empty_database_url: str) -> None:
    """They meet before the first change: the second finds nothing left to do."""
    script = "import sys; from fsm_core.postgres.migrate import upgrade; upgrade(sys.argv[1])"
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with (
        psycopg.connect(plain(empty_database_url)) as gate,
        psycopg.connect(plain(empty_database_url), autocommit=True) as watch,
    ):
        gate.execute("SELECT pg_advisory_xact_lock(hashtext('fsm.migrate'), hashtext('fsm'))")
        both = [subprocess.Popen([sys.executable, "-c", script, empty_database_url]) for _ in range(2)]
        try:
            eventually(
                lambda: watch.execute(waiting.encode()).fetchone() == (2,), what="both wait", timeout=30
            )
            gate.rollback()
        finally:
            codes = [process.wait(60) for process in both]

    assert codes == [0, 0]
    assert status(empty_database_url)[0] == status(empty_database_url)[1]


def test_two_threads_may_upgrade_at_once(empty_database_url: str) -> None:
    """Alembic's own state is one per process: they take turns."""
    start = threading.Barrier(4)

    def play(schema: str) -> None:
        start.wait()
        upgrade(empty_database_url, schema=schema)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(play, ["fsm", "fsm", "one", "two"]))

    assert (
        tables_of(empty_database_url)
        == tables_of(empty_database_url, "one")
        == tables_of(empty_database_url, "two")
    )


def test_a_migration_that_cannot_connect_says_where(servers: object) -> None:
    """The address, without the password."""
    with pytest.raises(DatabaseUnavailable, match=r"migrating: .*postgresql://app:\*\*\*@127.0.0.1:9/shop"):
        upgrade("postgresql://app:s3cret@127.0.0.1:9/shop")


@contextmanager
def a_row_in_each_table(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(plain(url), autocommit=True) as connection:
        for statement in TABLES_OF.values():
            connection.execute(statement.encode())
        yield connection


@pytest.mark.parametrize(("constraint", "change"), [(c, s) for c, changes in CHECKS.items() for s in changes])
def test_a_row_that_breaks_an_invariant_is_refused_by_name(
    database_url: str, constraint: str, change: str
) -> None:
    """Each CHECK, UNIQUE and REFERENCES, violated by one statement on a row that is otherwise right."""
    with a_row_in_each_table(database_url) as connection:
        with pytest.raises(psycopg.errors.IntegrityError) as caught:
            connection.execute(change.encode())

        assert caught.value.diag.constraint_name == constraint


def test_every_invariant_has_a_row_that_breaks_it(database_url: str) -> None:
    """A constraint that is added without a test is named here."""
    with psycopg.connect(plain(database_url)) as connection:
        rows = connection.execute(
            "SELECT conname FROM pg_constraint WHERE connamespace = 'fsm'::regnamespace AND contype IN ('c', 'u', 'f')"
            " UNION SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE i.indisunique AND NOT i.indisprimary AND c.relnamespace = 'fsm'::regnamespace"
        ).fetchall()

    assert {row[0] for row in rows} == set(CHECKS)
