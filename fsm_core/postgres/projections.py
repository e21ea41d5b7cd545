"""A projection's SQLAlchemy statements on the driver's connection: compiled, and their values prepared, as SQLAlchemy would."""

from __future__ import annotations

from sqlalchemy import ClauseElement, Executable
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.schema import ScalarElementColumnDefault

from fsm_core.errors import TransitionError
from fsm_core.postgres.ask import Ask
from fsm_core.postgres.statements import Plain

_DIALECT = psycopg.dialect()  # type: ignore[no-untyped-call]


def ask(statement: object) -> Ask[int]:
    """The round trip that runs `statement`; its answer means nothing.

    Raises TransitionError: it is no statement, or leaves a value to a default of Python's, which would be no part of the
    change (`server_default` is the database's, and is fine).
    """
    if not (isinstance(statement, ClauseElement) and isinstance(statement, Executable)):
        raise TransitionError(f"a projection gave {type(statement).__name__}, no SQLAlchemy statement")
    compiled = statement.compile(dialect=_DIALECT)
    if not isinstance(compiled, SQLCompiler):
        raise TransitionError(f"a projection gave {type(statement).__name__}, which changes no rows")
    expanded = compiled.construct_expanded_state({**_defaults(compiled)})
    values: dict[str, object] = dict(expanded.parameters)
    for bind, name in compiled.bind_names.items():
        processor = bind.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
        if processor is not None and name in values:
            values[name] = processor(values[name])
    for name, process in expanded.processors.items():
        values[name] = process(values[name])
    return Ask(Plain("projection", expanded.statement), values, len)


def _defaults(compiled: SQLCompiler) -> dict[str, object]:
    """The values of columns that the statement leaves to a default. Raises TransitionError: one that Python would compute."""
    found: dict[str, object] = {}
    for column in (*(compiled.insert_prefetch or ()), *(compiled.update_prefetch or ())):
        default = column.default if column in (compiled.insert_prefetch or ()) else column.onupdate
        if not isinstance(default, ScalarElementColumnDefault):
            raise TransitionError(
                f"a projection leaves {column.table.name}.{column.name} to a default in Python: name its value, from the change"
            )
        found[column.key] = default.arg
    return found
