"""Our own connections from an engine: in autocommit, returned as they were, thrown away when they broke."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from fsm_core.errors import DatabaseUnavailable
from fsm_core.postgres.failures import from_sqlalchemy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


class Own:
    """The driver's connections beneath a SQLAlchemy engine (psycopg 3)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Set and reset by SQLAlchemy: autocommit left on the driver's connection would survive its return to the pool.
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.dispose()

    @contextmanager
    def connected(self, doing: str) -> Iterator[psycopg.Connection[Any]]:
        """A connection in autocommit. Raises DatabaseUnavailable, PoolExhausted; psycopg's errors inside become ours."""
        with from_sqlalchemy(doing, self._engine.url), self._autocommit.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)  # noqa: S101 - the stores check their engine
            try:
                yield driver
            except (DatabaseUnavailable, psycopg.OperationalError):
                if driver.closed:
                    connection.invalidate()
                    self._engine.dispose()  # what is pooled beside it broke as well, most likely
                raise


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
                driver = (await connection.get_raw_connection()).driver_connection
                assert isinstance(driver, psycopg.AsyncConnection)  # noqa: S101 - the stores check their engine
                try:
                    yield driver
                except (DatabaseUnavailable, psycopg.OperationalError):
                    if driver.closed:
                        await connection.invalidate()
                        await self._engine.dispose()
                    raise
