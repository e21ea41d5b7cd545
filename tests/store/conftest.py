"""A world for each kind of store on PostgreSQL; the conformance suite has those of every store."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

import pytest

from tests.store.world import WORLDS, PostgresWorld

MakeWorld = Callable[..., PostgresWorld]


@pytest.fixture(params=sorted(WORLDS))
def open_world(
    request: pytest.FixtureRequest, database_url: str
) -> Callable[..., AbstractContextManager[PostgresWorld]]:
    """Opens a store on the test's database, with options of its own; one for each kind of store."""
    return partial(WORLDS[request.param], database_url)


@pytest.fixture
def make_world(open_world: Callable[..., AbstractContextManager[PostgresWorld]]) -> Iterator[MakeWorld]:
    """As `open_world`, closed by the test's end."""
    with ExitStack() as stack:

        def make(**options: Any) -> PostgresWorld:
            return stack.enter_context(open_world(**options))

        yield make


@pytest.fixture
def world(make_world: MakeWorld) -> PostgresWorld:
    """A store of each kind, on a database with SQL beside it."""
    return make_world()
