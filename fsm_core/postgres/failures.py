"""From psycopg's and SQLAlchemy's errors to ours: nothing of the layer below leaks."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors as pg
from sqlalchemy import exc

from fsm_core.errors import (
    Busy,
    DatabaseError,
    DatabaseUnavailable,
    Deadlock,
    PoolExhausted,
    SchemaError,
    SerializationConflict,
    StoreError,
)
from fsm_core.postgres.urls import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import URL

_MISSING = (pg.UndefinedTable, pg.UndefinedColumn, pg.InvalidSchemaName, pg.UndefinedFunction)


def typed(error: psycopg.Error, where: str | None = None) -> StoreError:
    """Our error for one of psycopg's; `where` is the address shown in it."""
    message = (str(error).strip().splitlines() or [type(error).__name__])[0]
    state = error.sqlstate
    if isinstance(error, pg.SerializationFailure):
        return SerializationConflict(message, sqlstate=state, where=where)
    if isinstance(error, pg.DeadlockDetected):
        return Deadlock(message, sqlstate=state, where=where)
    if isinstance(error, pg.LockNotAvailable):
        return Busy(message, sqlstate=state, where=where)
    if isinstance(error, _MISSING):
        return SchemaError(f"{message}; run `fsm migrate`", sqlstate=state, where=where)
    if _lost(error):
        return DatabaseUnavailable(f"the database does not answer: {message}", where=where)
    return DatabaseError(message, sqlstate=state, where=where)


def _lost(error: psycopg.Error) -> bool:
    """No sqlstate at all: the connection, not the server, said it. Class 57P and 08: the server is going or gone."""
    if isinstance(error, psycopg.InterfaceError):
        return True
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P", "53300"))


@contextmanager
def from_sqlalchemy(doing: str, url: URL | None = None) -> Iterator[None]:
    """Turn what SQLAlchemy or psycopg raises inside into ours, with `doing` as its context."""
    try:
        yield
    except exc.TimeoutError as error:
        raise PoolExhausted(f"no connection came free: {error}", where=_where(url)).during(doing) from error
    except exc.DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise typed(error.orig, _where(url)).during(doing) from error
        raise DatabaseError(str(error), where=_where(url)).during(doing) from error
    except psycopg.Error as error:
        raise typed(error, _where(url)).during(doing) from error


def _where(url: URL | None) -> str | None:
    return None if url is None else shown(url)
