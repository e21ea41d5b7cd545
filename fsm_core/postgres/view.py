"""A SQL view of a machine: its fixed columns, then one typed column per field of its states.

Rows of every version are in it; a field is looked for by its name, whatever version wrote it. A value that its column's
type does not take reads as NULL: one row must never make the others unreadable. Names and texts are composed by psycopg.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import errors as pg
from psycopg import sql
from sqlalchemy import create_engine

from fsm_core.columns import MAX_NAME, Column, SqlType
from fsm_core.errors import ConfigurationError, NotFound, Refused
from fsm_core.postgres.own import Own
from fsm_core.postgres.urls import engine_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

LEAST_VERSION = 16
"""The first PostgreSQL that can be asked whether a text is a valid value, without an error if it is not."""

LOCK_WAIT = "10s"

# The rows of one machine; those that are not born yet have no state. Index, for one key: machines_address.
_CREATE: LiteralString = """\
CREATE OR REPLACE VIEW {view} AS
SELECT m.id, m.key, m.status, m.state_name AS state, m.seq, m.version, m.created_at, m.updated_at, m.ended_at{fields}
  FROM {schema}.machines m
 WHERE m.fsm = {machine} AND m.status <> 'unborn'"""

# Says whose view it is. Only a view with this comment is replaced or dropped.
_COMMENT: LiteralString = "COMMENT ON VIEW {view} IS {comment}"

# Locks the view; refused while something else is made of it.
_DROP: LiteralString = "DROP VIEW {view}"

# What stands under that name, and the comment on it. Index: pg_class_relname_nsp_index.
_FOUND: LiteralString = """\
SELECT c.relkind = 'v', obj_description(c.oid, 'pg_class')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {schema} AND c.relname = {name}"""

# The lock of `fsm migrate`: crossing replacements of one view break on the catalog's own rows.
_LOCK: LiteralString = "SELECT pg_advisory_xact_lock(hashtext('fsm.migrate'), hashtext({schema}))"
_LOCK_TIMEOUT: LiteralString = "SELECT set_config('lock_timeout', {wait}, true)"

# How a value is read from its text {x}. The patterns keep out what PostgreSQL would take and the codec never writes ("today",
# "yes"); a datetime without a zone is read as UTC, or it would change with the reader; an interval's sign comes before its P.
_READ: dict[SqlType, LiteralString] = {
    SqlType.TEXT: "{x}",
    SqlType.BOOLEAN: "CASE WHEN {x} IN ('true', 'false') THEN {x}::boolean END",
    SqlType.NUMERIC: "CASE WHEN pg_input_is_valid({x}, 'numeric') THEN {x}::numeric END",
    SqlType.DOUBLE: "CASE WHEN pg_input_is_valid({x}, 'float8') THEN {x}::float8 END",
    SqlType.UUID: "CASE WHEN pg_input_is_valid({x}, 'uuid') THEN {x}::uuid END",
    SqlType.DATE: "CASE WHEN {x} ~ '^[0-9]' AND pg_input_is_valid({x}, 'date') THEN {x}::date END",
    SqlType.TIME: "CASE WHEN {x} ~ '^[0-9:.]+$' AND pg_input_is_valid({x}, 'time') THEN {x}::time END",
    SqlType.TIMESTAMP: """CASE WHEN {x} ~ '^[0-9]' AND pg_input_is_valid({x}, 'timestamptz')
            THEN CASE WHEN {x} ~ '(Z|[+-][0-9]{{2}}:[0-9]{{2}})$' THEN {x}::timestamptz ELSE {x}::timestamp AT TIME ZONE 'UTC' END END""",
    SqlType.INTERVAL: """CASE WHEN {x} ~ '^-?P' AND pg_input_is_valid(ltrim({x}, '-'), 'interval')
            THEN CASE WHEN {x} ~ '^-' THEN - ltrim({x}, '-')::interval ELSE {x}::interval END END""",
    SqlType.JSON: "nullif(m.state -> {field}, 'null')",
}


@dataclass(frozen=True)
class View:
    """The view `name` in `schema` of the machine called `machine`, with `columns` after the fixed ones.

    Raises ConfigurationError: no view can have that name.
    """

    schema: str
    name: str
    machine: str
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.name.encode()) <= MAX_NAME or "\0" in self.name:
            raise ConfigurationError(
                f"no view can be called {self.name!r}: 1 to {MAX_NAME} bytes; choose another name"
            )

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    def text(self) -> str:
        """The SQL that creates it, or replaces it if its columns are the same. Names and literals are quoted."""
        return ";\n".join(part.as_string(None) for part in self.statements()) + ";\n"

    def statements(self) -> tuple[sql.Composed, ...]:
        """The same, one by one."""
        fields = [
            sql.SQL(",\n       {} AS {}").format(_read(column), sql.Identifier(column.name))
            for column in self.columns
        ]
        return (
            self._composed(_CREATE, fields=sql.SQL("").join(fields)),
            self._composed(_COMMENT, comment=sql.Literal(self.comment)),
        )

    def create(self, database_url: str) -> bool:
        """Create the view, or replace it. Returns whether it was dropped for that: its columns had changed, its grants are gone.

        Raises Refused (the name is taken, or something else is made of the view), ConfigurationError (PostgreSQL is too
        old), StoreError; then nothing was changed.
        """
        with self._alone(database_url, f"creating view {self}") as connection:
            found = self._find(connection)
            create, comment = self.statements()
            try:
                with connection.transaction():
                    connection.execute(create)
                dropped = False
            except pg.InvalidTableDefinition:
                if not found:
                    raise
                self._drop(connection)
                connection.execute(create)
                dropped = True
            connection.execute(comment)
        return dropped

    def drop(self, database_url: str) -> None:
        """Drop the view. Raises NotFound, Refused as `create`, StoreError; then nothing was changed."""
        with self._alone(database_url, f"dropping view {self}") as connection:
            if not self._find(connection):
                raise NotFound(f"there is no view {self}")
            self._drop(connection)

    @property
    def comment(self) -> str:
        """What marks a view as ours, of this machine."""
        return f"fsm view of machine {self.machine}"

    def _find(self, connection: psycopg.Connection[Any]) -> bool:
        """Whether this view is there. Raises Refused: something else is."""
        row = connection.execute(self._composed(_FOUND, schema=sql.Literal(self.schema))).fetchone()
        if row is not None and tuple(row) != (True, self.comment):
            raise Refused(
                f"{self} is there already, and is no view of machine {self.machine!r}: choose another name"
            )
        return row is not None

    def _drop(self, connection: psycopg.Connection[Any]) -> None:
        try:
            connection.execute(self._composed(_DROP))
        except pg.DependentObjectsStillExist as error:
            by = " and ".join((error.diag.message_detail or "").splitlines())
            raise Refused(f"view {self} cannot be dropped, nor its columns changed: {by}") from error

    def _composed(self, text: LiteralString, **parts: sql.Composable) -> sql.Composed:
        given: dict[str, sql.Composable] = {
            "view": sql.Identifier(self.schema, self.name),
            "name": sql.Literal(self.name),
            "schema": sql.Identifier(self.schema),
            "machine": sql.Literal(self.machine),
        }
        return sql.SQL(text).format(**{**given, **parts})

    @contextmanager
    def _alone(self, database_url: str, doing: str) -> Iterator[psycopg.Connection[Any]]:
        """A transaction in which nobody else changes the schema."""
        url = engine_url(database_url)
        engine = create_engine(url)
        try:
            with Own(engine).connected(doing) as connection, connection.transaction():
                if connection.info.server_version < LEAST_VERSION * 10_000:
                    raise ConfigurationError(
                        f"a view needs PostgreSQL {LEAST_VERSION} or later, not {connection.info.server_version // 10_000}"
                    )
                connection.execute(sql.SQL(_LOCK_TIMEOUT).format(wait=sql.Literal(LOCK_WAIT)))
                connection.execute(sql.SQL(_LOCK).format(schema=sql.Literal(self.schema)))
                yield connection
        finally:
            engine.dispose()


def _read(column: Column) -> sql.Composed:
    """The column's value, from the state's JSON."""
    field = sql.Literal(column.field)
    text = sql.SQL("(m.state ->> {})").format(field)
    return sql.SQL(_READ[column.type]).format(x=text, field=field)
