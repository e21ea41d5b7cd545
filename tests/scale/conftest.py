"""Databases of a test's own: partitioned ones, and several at once."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from fsm_core.postgres.partitions import Every, Partitions
from tests.conftest import passing_database
from tests.workers.conftest import cluster
from workers.dev.servers import Servers

__all__ = ["cluster"]


@pytest.fixture
def partitioned(engine: Engine) -> Partitions:
    """The test's database, partitioned by day."""
    made = Partitions(engine)
    made.enable(Every.DAY)
    return made


@pytest.fixture
def second_engine(servers: Servers, template: str) -> Iterator[Engine]:
    """An engine on a second migrated database."""
    for url in passing_database(servers, "CREATE DATABASE {} TEMPLATE {}", template):
        engine = create_engine(url)
        yield engine
        engine.dispose()
