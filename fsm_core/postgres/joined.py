"""The caller's own connection: from what is passed as `session=` down to psycopg's connection beneath it."""

from __future__ import annotations

from typing import Any, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from fsm_core.errors import UnsupportedConnection

SyncTransaction: TypeAlias = Session | Connection | psycopg.Connection[Any]
AsyncTransaction: TypeAlias = AsyncSession | AsyncConnection | psycopg.AsyncConnection[Any]


def connection(given: SyncTransaction) -> psycopg.Connection[Any]:
    """The psycopg connection beneath `given`, in its transaction. Raises UnsupportedConnection."""
    found: object = given
    if isinstance(given, Session):
        found = given.connection().connection.driver_connection
    elif isinstance(given, Connection):
        if not given.in_transaction():
            given.begin()
        found = given.connection.driver_connection
    if not isinstance(found, psycopg.Connection):
        raise UnsupportedConnection(_advice(given, found, "a Session, a SQLAlchemy Connection or a psycopg Connection"))
    _in_transaction(found)
    return found


async def async_connection(given: AsyncTransaction) -> psycopg.AsyncConnection[Any]:
    """As `connection`, asynchronously."""
    found: object = given
    if isinstance(given, AsyncSession):
        found = (await (await given.connection()).get_raw_connection()).driver_connection
    elif isinstance(given, AsyncConnection):
        if not given.in_transaction():
            await given.begin()
        found = (await given.get_raw_connection()).driver_connection
    if not isinstance(found, psycopg.AsyncConnection):
        raise UnsupportedConnection(
            _advice(given, found, "an AsyncSession, a SQLAlchemy AsyncConnection or a psycopg AsyncConnection")
        )
    _in_transaction(found)
    return found


def _in_transaction(found: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    if found.autocommit and found.info.transaction_status == TransactionStatus.IDLE:
        raise UnsupportedConnection("session= is in autocommit and in no transaction; begin one first")


def _advice(given: object, found: object, wanted: str) -> str:
    below = "" if found is given else f", which ends at {type(found).__module__}.{type(found).__qualname__}"
    return f"session= is {type(given).__module__}.{type(given).__qualname__}{below}; give {wanted}, on psycopg 3"
