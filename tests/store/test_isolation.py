"""Our own transactions are READ COMMITTED, whatever the server's default or the application's: a look after a lock must see what it waited for."""

from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, TextClause, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from fsm_core import Change, Machine
from fsm_core.postgres import AsyncPostgresStore, PostgresStore


@dataclass(frozen=True)
class On:
    pass


@dataclass(frozen=True)
class Press:
    pass


lamp = Machine("lamp", states=On, events=Press, initial=On(), unhandled="ignore")


@lamp.project
def levels(_change: Change[On, Press]) -> list[TextClause]:
    return [text("INSERT INTO levels VALUES (current_setting('transaction_isolation'))")]


SERVERS: dict[str, dict[str, Any]] = {
    "the server's": {"connect_args": {"options": "-c default_transaction_isolation=serializable"}},
    "the engine's": {"isolation_level": "SERIALIZABLE"},
}


@pytest.fixture(params=SERVERS.values(), ids=SERVERS.keys())
def options(request: pytest.FixtureRequest, engine: Engine) -> dict[str, Any]:
    """Of an engine whose transactions are SERIALIZABLE by default; it has one connection."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE levels (level text)"))
    return {**request.param, "pool_size": 1, "max_overflow": 0}


def seen(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT level FROM levels")).scalars())


def test_ours_are_read_committed_and_the_applications_as_they_were(
    engine: Engine, database_url: str, options: dict[str, Any]
) -> None:
    strict = create_engine(database_url, **options)
    store = PostgresStore(strict)

    store.start(lamp, "a")
    store.advance(lamp, "a", Press())

    with strict.connect() as connection:
        assert connection.execute(text("SHOW transaction_isolation")).scalar() == "serializable"
    strict.dispose()
    assert seen(engine) == ["read committed"] * 2


async def test_so_are_the_asynchronous_ones(
    engine: Engine, database_url: str, options: dict[str, Any]
) -> None:
    strict = create_async_engine(database_url, **options)
    store = AsyncPostgresStore(strict)

    await store.start(lamp, "a")
    await store.advance(lamp, "a", Press())

    async with strict.connect() as connection:
        assert await connection.scalar(text("SHOW transaction_isolation")) == "serializable"
    await strict.dispose()
    assert seen(engine) == ["read committed"] * 2
