"""The caller's own connection: from what is passed as `session=` down to psycopg's connection beneath it."""

from __future__ import annotations

from typing import Any, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from fsm_core.errors import StoreError, UnsupportedConnection
from fsm_core.postgres.failures import from_sqlalchemy

SyncTransaction: TypeAlias = Session | scoped_session[Any] | Connection | psycopg.Connection[Any]
AsyncTransaction: TypeAlias = (
    AsyncSession | async_scoped_session[Any] | AsyncConnection | psycopg.AsyncConnection[Any]
)


def connection(given: SyncTransaction) -> psycopg.Connection[Any]:
    """The psycopg connection beneath `given`, in its transaction: one is begun if there is none.

    Raises UnsupportedConnection (what was begun is ended again), DatabaseUnavailable, PoolExhausted.
    """
    target = given() if isinstance(given, scoped_session) else given
    begun = isinstance(target, Session | Connection) and not target.in_transaction()
    try:
        with from_sqlalchemy("joining the caller's transaction"):
            found: object = target
            if isinstance(target, Session):
                found = target.connection().connection.driver_connection
            elif isinstance(target, Connection):
                if begun:
                    target.begin()
                found = target.connection.driver_connection
        if not isinstance(found, psycopg.Connection):
            raise UnsupportedConnection(
                _advice(given, found, "a Session, a SQLAlchemy Connection or a psycopg Connection")
            )
        _in_transaction(found)
    except StoreError:
        if begun and isinstance(target, Session | Connection):
            target.rollback()
        raise
    return found


async def async_connection(given: AsyncTransaction) -> psycopg.AsyncConnection[Any]:
    """As `connection`, asynchronously."""
    target = given() if isinstance(given, async_scoped_session) else given
    begun = isinstance(target, AsyncSession | AsyncConnection) and not target.in_transaction()
    try:
        with from_sqlalchemy("joining the caller's transaction"):
            found: object = target
            if isinstance(target, AsyncSession):
                found = (await (await target.connection()).get_raw_connection()).driver_connection
            elif isinstance(target, AsyncConnection):
                if begun:
                    _ = await target.begin()
                found = (await target.get_raw_connection()).driver_connection
        if not isinstance(found, psycopg.AsyncConnection):
            raise UnsupportedConnection(
                _advice(
                    given, found, "an AsyncSession, a SQLAlchemy AsyncConnection or a psycopg AsyncConnection"
                )
            )
        _in_transaction(found)
    except StoreError:
        if begun and isinstance(target, AsyncSession | AsyncConnection):
            await target.rollback()
        raise
    return found


def _in_transaction(found: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    if found.autocommit and found.info.transaction_status == TransactionStatus.IDLE:
        raise UnsupportedConnection("session= is in autocommit and in no transaction; begin one first")


def _advice(given: object, found: object, wanted: str) -> str:
    below = "" if found is given else f", which ends at {type(found).__module__}.{type(found).__qualname__}"
    return (
        f"session= is {type(given).__module__}.{type(given).__qualname__}{below}; give {wanted}, on psycopg 3"
    )
