"""Our own connections from an engine: in autocommit, returned as they were, thrown away when they broke."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus

from fsm_core.postgres.failures import from_sqlalchemy
from fsm_core.postgres.pooler import settled, settled_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import Engine, PoolProxiedConnection
    from sqlalchemy.ext.asyncio import AsyncEngine


class Own:
    """The driver's connections beneath a SQLAlchemy engine (psycopg 3).

    Taken from the engine's pool without a SQLAlchemy connection around each: that cost as much of the processor as the statements
    themselves. The pool, its limits and its events are the engine's all the same.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.dispose()

    @contextmanager
    def connected(self, doing: str) -> Iterator[psycopg.Connection[Any]]:
        """A connection in autocommit. Raises DatabaseUnavailable, PoolExhausted; psycopg's errors inside become ours."""
        with from_sqlalchemy(doing, self._engine.url):
            pooled = self._engine.raw_connection()
            driver = pooled.driver_connection
            assert isinstance(driver, psycopg.Connection)  # noqa: S101 - the stores check their engine
            was = driver.autocommit
            try:
                driver.autocommit = True
                settled(driver, pooled.info)
                yield driver
            finally:
                self._give_back(pooled, driver, autocommit=was)

    @contextmanager
    def transaction(self, connection: psycopg.Connection[Any]) -> Iterator[None]:
        """A transaction on a connection of `connected`: READ COMMITTED, whatever the application's engine sets for its own."""
        was = connection.isolation_level
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        try:
            with connection.transaction():
                yield
        finally:
            if connection.info.transaction_status is TransactionStatus.IDLE:  # else it is thrown away
                connection.isolation_level = was

    def _give_back(
        self, pooled: PoolProxiedConnection, driver: psycopg.Connection[Any], *, autocommit: bool
    ) -> None:
        """As it was: autocommit left on would survive the return to the pool, and the application's rollback roll nothing back."""
        if driver.closed:
            pooled.invalidate()
            self._engine.dispose()  # what is pooled beside it broke as well, most likely
        elif driver.info.transaction_status is TransactionStatus.IDLE:
            driver.autocommit = autocommit
            pooled.close()
        else:
            pooled.invalidate()  # it was interrupted in the middle of a statement


class AsyncOwn:
    """As `Own`, beneath an AsyncEngine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def close(self) -> None:
        """As `Own.close`."""
        await self._engine.dispose()

    @asynccontextmanager
    async def connected(self, doing: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """As `Own.connected`."""
        with from_sqlalchemy(doing, self._engine.url):
            async with self._autocommit.connect() as connection:
                pooled = await connection.get_raw_connection()
                driver = pooled.driver_connection
                assert isinstance(driver, psycopg.AsyncConnection)  # noqa: S101 - the stores check their engine
                # Whatever the server's default is; the engine puts it back with the autocommit.
                await driver.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
                try:
                    await settled_async(driver, pooled.info)
                    yield driver
                finally:
                    if driver.closed:
                        await connection.invalidate()
                        await self._engine.dispose()  # as `Own._give_back`
