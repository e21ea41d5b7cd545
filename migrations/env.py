"""Alembic's environment. Imports neither package: history must not change when code does."""

import os

from alembic import context
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url


def run(connection: Connection, schema: str) -> None:
    """Play the migrations on `connection`; the tables and the version table live in `schema`."""
    quoted = connection.dialect.identifier_preparer.quote_identifier(schema)
    # Two `fsm migrate` at once: the second waits here, then finds nothing left to do. Before the schema: crossing
    # CREATE SCHEMA IF NOT EXISTS break on pg_namespace's unique index.
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtext('fsm.migrate'), hashtext(:schema))"),
        {"schema": schema},
    )
    # While we wait for a table, everybody else waits behind us: not for as long as somebody's transaction may be open.
    ours = connection.execute(
        text("SELECT set_config('lock_timeout', '5s', true) WHERE current_setting('lock_timeout') = '0'")
    ).scalar()
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {quoted}"))
    context.configure(connection=connection, version_table="schema_version", version_table_schema=schema)
    with context.begin_transaction():
        context.run_migrations()
    if ours is not None:
        connection.execute(text("SELECT set_config('lock_timeout', '0', true)"))


given = context.config.attributes.get("connection")
target_schema = context.config.attributes.get("schema") or os.environ.get("FSM_SCHEMA", "fsm")
if given is not None:
    run(given, target_schema)
else:
    engine = create_engine(make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg"))
    with engine.begin() as own:
        run(own, target_schema)
