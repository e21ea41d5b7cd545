"""The tests of elsewhere, on a database whose events, actions and attempts are partitioned."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import pytest
from sqlalchemy import create_engine

from fsm_core.postgres.partitions import Every, Partitions
from tests.conftest import passing_database
from tests.store.conftest import make_world, world
from tests.store.world import WORLDS, PostgresWorld
from workers.dev.servers import Servers

__all__ = ["make_world", "world"]


@pytest.fixture
def database_url(servers: Servers, template: str) -> Iterator[str]:
    """A migrated database of the test's own, partitioned."""
    for url in passing_database(servers, "CREATE DATABASE {} TEMPLATE {}", template):
        engine = create_engine(url)
        Partitions(engine).enable(Every.MONTH, ahead=1)
        engine.dispose()
        yield url


@pytest.fixture
def open_world(database_url: str) -> Callable[..., AbstractContextManager[PostgresWorld]]:
    """The synchronous store: the other one has the same statements."""
    return partial(WORLDS["sync"], database_url)
