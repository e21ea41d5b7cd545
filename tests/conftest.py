"""What tests share: servers that are started once, and a database and a broker of each test's own."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import redis
from psycopg import sql
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from workers.dev.servers import Servers, embedded_servers


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Real servers: those of DATABASE_URL and BROKER_URL, or embedded ones."""
    with embedded_servers(os.environ.get("DATABASE_URL"), os.environ.get("BROKER_URL")) as servers:
        yield servers


@pytest.fixture(scope="session")
def template(servers: Servers) -> Iterator[str]:
    """The name of a migrated database, from which those of the tests are copied."""
    from fsm_core.postgres.migrate import upgrade

    name = f"fsm_template_{uuid.uuid4().hex[:12]}"
    administer(servers.database_url, "CREATE DATABASE {}", name)
    try:
        upgrade(at_database(servers.database_url, name))
        yield name
    finally:
        administer(servers.database_url, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def empty_database_url(servers: Servers) -> Iterator[str]:
    """A database of the test's own with nothing in it."""
    yield from passing_database(servers, "CREATE DATABASE {}")


@pytest.fixture
def database_url(servers: Servers, template: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    yield from passing_database(servers, "CREATE DATABASE {} TEMPLATE {}", template)


@pytest.fixture
def broker_url(servers: Servers, worker_id: str) -> str:
    """A broker of the test's own: a logical database that is empty at the start."""
    number = 1 + int(worker_id.removeprefix("gw")) % 15 if worker_id != "master" else 1
    url = make_url(servers.broker_url).set(database=str(number)).render_as_string(hide_password=False)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A synchronous engine on the test's database."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
async def async_engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An asynchronous engine on the test's database."""
    engine = create_async_engine(database_url)
    yield engine
    await engine.dispose()


def passing_database(servers: Servers, create: str, *names: str) -> Iterator[str]:
    name = f"fsm_test_{uuid.uuid4().hex[:12]}"
    administer(servers.database_url, create, name, *names)
    try:
        yield at_database(servers.database_url, name)
    finally:
        administer(servers.database_url, "DROP DATABASE {} WITH (FORCE)", name)


def at_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def administer(url: str, statement: str, *names: str) -> None:
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
