"""The caller's own transaction, asynchronous: both commit, or neither."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from examples.door import Close, Closed, Lock, Open, door
from fsm_core import Rejected
from fsm_core.errors import SerializationConflict, UnsupportedConnection
from fsm_core.postgres import AsyncPostgresStore
from tests.store.machines import New, Pay, orders
from tests.store.world import plain


@dataclass
class Joined:
    """A caller's transaction, whatever it is made of."""

    session: Any
    run: Callable[[str], Awaitable[Any]]
    commit: Callable[[], Awaitable[Any]]
    rollback: Callable[[], Awaitable[Any]]


@asynccontextmanager
async def by_session(engine: AsyncEngine) -> AsyncIterator[Joined]:
    async with AsyncSession(engine) as session:
        yield Joined(session, lambda s: session.execute(text(s)), session.commit, session.rollback)


@asynccontextmanager
async def by_connection(engine: AsyncEngine) -> AsyncIterator[Joined]:
    async with engine.connect() as connection:
        yield Joined(
            connection, lambda s: connection.execute(text(s)), connection.commit, connection.rollback
        )


@asynccontextmanager
async def by_psycopg(engine: AsyncEngine) -> AsyncIterator[Joined]:
    async with await psycopg.AsyncConnection.connect(plain(str(engine.url))) as connection:
        yield Joined(
            connection, lambda s: connection.execute(s.encode()), connection.commit, connection.rollback
        )


Join = Callable[[AsyncEngine], AbstractAsyncContextManager[Joined]]
JOINS: list[Join] = [by_session, by_connection, by_psycopg]


@pytest.fixture
async def store(async_engine: AsyncEngine) -> AsyncPostgresStore:
    """A store, with a table of the application beside it."""
    async with async_engine.begin() as connection:
        await connection.execute(text("CREATE TABLE mine (n int)"))
    return AsyncPostgresStore(async_engine)


async def mine(engine: AsyncEngine) -> list[int]:
    async with engine.connect() as connection:
        return [row[0] for row in await connection.execute(text("SELECT n FROM mine ORDER BY n"))]


@pytest.mark.parametrize("join", JOINS)
async def test_both_are_committed_together(
    store: AsyncPostgresStore, async_engine: AsyncEngine, join: Join
) -> None:
    """Nobody sees the machine or the row before the caller's COMMIT; then both are there."""
    await store.start(door, "front")
    async with join(async_engine) as joined:
        await joined.run("INSERT INTO mine VALUES (1)")
        await store.start(door, "back", session=joined.session)
        await store.advance(door, "front", Close(), session=joined.session)
        assert (await store.advance(door, "front", Lock(1), session=joined.session)).seq == 2
        assert (await store.get(door, "front")).seq == 0
        assert await mine(async_engine) == []
        await joined.commit()

    assert await mine(async_engine) == [1]
    assert (await store.get(door, "front")).seq == 2
    assert (await store.get(door, "back")).seq == 0


@pytest.mark.parametrize("join", JOINS)
async def test_neither_is_committed(store: AsyncPostgresStore, async_engine: AsyncEngine, join: Join) -> None:
    """What the caller rolls back never happened."""
    await store.start(door, "front")
    async with join(async_engine) as joined:
        await joined.run("INSERT INTO mine VALUES (1)")
        await store.start(door, "back", session=joined.session)
        await store.advance(door, "front", Close(), session=joined.session)
        await joined.rollback()

    assert await mine(async_engine) == []
    assert [(m.key, m.seq) for m in await store.machines()] == [("front", 0)]


@pytest.mark.parametrize("join", JOINS)
async def test_a_refusal_leaves_the_callers_transaction_alive(
    store: AsyncPostgresStore, async_engine: AsyncEngine, join: Join
) -> None:
    """Refusals are found by reading: the caller's own rows are committed."""
    await store.start(orders, 7, New(0))
    async with join(async_engine) as joined:
        await joined.run("INSERT INTO mine VALUES (1)")
        with pytest.raises(Rejected):
            await store.advance(orders, 7, Pay(), session=joined.session)
        await joined.run("INSERT INTO mine VALUES (2)")
        await joined.commit()

    assert await mine(async_engine) == [1, 2]


async def test_a_machine_that_changed_since_the_callers_snapshot_is_a_conflict(
    store: AsyncPostgresStore, async_engine: AsyncEngine
) -> None:
    """Never decided on the past."""
    await store.start(door, "front")
    async with AsyncSession(async_engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        await session.execute(text("SELECT 1 FROM mine"))
        await store.advance(door, "front", Close())
        with pytest.raises(SerializationConflict):
            await store.advance(door, "front", Open(), session=session)

    assert (await store.get(door, "front")).state == Closed()


async def test_autocommit_without_a_transaction_is_refused(
    store: AsyncPostgresStore, async_engine: AsyncEngine
) -> None:
    """Two statements would be two transactions. The connection is left as it was given."""
    await store.start(door, "front")
    address = plain(str(async_engine.url))
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as raw:
        with pytest.raises(UnsupportedConnection, match="in autocommit"):
            await store.advance(door, "front", Close(), session=raw)
    async with async_engine.connect() as plain_connection:
        connection = await plain_connection.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(UnsupportedConnection, match="in autocommit"):
            await store.advance(door, "front", Close(), session=connection)
        assert not connection.in_transaction()

    assert (await store.get(door, "front")).seq == 0


async def test_a_synchronous_session_is_refused_by_name(store: AsyncPostgresStore, database_url: str) -> None:
    """It would block the loop: the error says what to give instead."""
    engine = create_engine(database_url)
    with (
        Session(engine) as session,
        pytest.raises(UnsupportedConnection, match=r"orm.session.Session; give an AsyncSession"),
    ):
        await store.advance(door, "front", Close(), session=session)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedConnection, match="takes an AsyncEngine"):
        AsyncPostgresStore(engine)  # type: ignore[arg-type]
    engine.dispose()


async def test_the_pooled_connection_is_given_back_as_it_was(
    store: AsyncPostgresStore, async_engine: AsyncEngine
) -> None:
    """After our autocommit the application's next transaction rolls back as it should."""
    await store.start(door, "front")
    async with async_engine.connect() as connection:
        await connection.execute(text("CREATE TABLE t ()"))
        await connection.rollback()
        assert await connection.scalar(text("SELECT to_regclass('t')")) is None
