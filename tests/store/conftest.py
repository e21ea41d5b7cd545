"""A world for each kind of store."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

import pytest

from tests.store.world import WORLDS, World

MakeWorld = Callable[..., World]


@pytest.fixture(params=sorted(WORLDS))
def open_world(
    request: pytest.FixtureRequest, database_url: str
) -> Callable[..., AbstractContextManager[World]]:
    """Opens a store on the test's database, with options of its own; one for each kind of store."""
    return partial(WORLDS[request.param], database_url)


@pytest.fixture
def make_world(open_world: Callable[..., AbstractContextManager[World]]) -> Iterator[MakeWorld]:
    """As `open_world`, closed by the test's end."""
    with ExitStack() as stack:

        def make(**options: Any) -> World:
            return stack.enter_context(open_world(**options))

        yield make


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """A store of each kind."""
    return make_world()
