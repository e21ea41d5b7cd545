"""Playing the migrations, from the checkout's `migrations/` or from the copy in the wheel."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

import alembic.context
import alembic.op
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from fsm_core.errors import ConfigurationError
from fsm_core.postgres.crash import Point, reached
from fsm_core.postgres.failures import from_sqlalchemy
from fsm_core.postgres.urls import engine_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection


_ALEMBIC = RLock()
"""Alembic's `context` and `op` are one per process: two threads that migrate would take each other's."""


def location() -> Path:
    """The folder of the migrations. Raises ConfigurationError if neither place has it."""
    here = Path(__file__).parent
    for folder in (here / "migrations", here.parent.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise ConfigurationError("the migrations are missing from this installation")


def upgrade(database: str | Connection, revision: str = "head", schema: str = "fsm") -> None:
    """Bring the schema up to `revision`.

    database: its address; or a SQLAlchemy Connection, in whose transaction it happens, also within a migration of an Alembic
    tree of your own: `upgrade(op.get_bind())`. Raises DatabaseUnavailable or DatabaseError; then nothing was changed.
    """
    _play(database, schema, lambda config: command.upgrade(config, revision))


def downgrade(database: str | Connection, revision: str, schema: str = "fsm") -> None:
    """Take the schema down to `revision` ("base": nothing is left but the version table). As `upgrade`."""
    _play(database, schema, lambda config: command.downgrade(config, revision))


def status(database_url: str, schema: str = "fsm") -> tuple[str | None, str]:
    """The revision that the database has (None: no tables) and the one that this code needs. Raises as `upgrade`."""
    needed = ScriptDirectory(str(location())).get_current_head()
    found: list[str | None] = []

    def look(connection: Connection) -> None:
        options = {"version_table": "schema_version", "version_table_schema": schema}
        found.append(MigrationContext.configure(connection, opts=options).get_current_revision())

    _connected(database_url, look)
    return found[0], needed or ""


def _play(database: str | Connection, schema: str, act: Callable[[Config], None]) -> None:
    def play(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(location()).replace("%", "%%"))
        config.attributes.update(connection=connection, schema=schema)
        with _ALEMBIC, _apart():
            act(config)

    if isinstance(database, str):
        _connected(database, play)
    else:
        with from_sqlalchemy("migrating", database.engine.url):
            play(database)


@contextmanager
def _apart() -> Iterator[None]:
    """Alembic's `op` and `context` as they were: they are of the process, and we may be within somebody's migration."""
    outer = [
        proxy
        for module in (alembic.context, alembic.op)
        if (proxy := getattr(module, "_proxy", None)) is not None
    ]
    try:
        yield
    finally:
        for proxy in outer:
            proxy._install_proxy()  # noqa: SLF001 - Alembic takes its own back by name, and those of whoever is around it


def _connected(database_url: str, act: Callable[[Connection], None]) -> None:
    url = engine_url(database_url)
    engine = create_engine(url)
    try:
        with from_sqlalchemy("migrating", url), engine.begin() as connection:
            act(connection)
            reached(Point.MIGRATE_MID)
    finally:
        engine.dispose()
