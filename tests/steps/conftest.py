"""A world with a database and one without: what holds of flows holds on both."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial

import pytest

from fsm_core.memory import MemoryStore
from tests.store.world import World, memory_world, sync_world


@pytest.fixture(params=["memory", "postgres"])
def open_world(request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[World]]:
    """Opens a store on the test's rows."""
    if request.param == "memory":
        return partial(memory_world, MemoryStore())
    return partial(sync_world, request.getfixturevalue("database_url"))


@pytest.fixture
def world(open_world: Callable[..., AbstractContextManager[World]]) -> Iterator[World]:
    with ExitStack() as stack:
        yield stack.enter_context(open_world())


@pytest.fixture
def later(open_world: Callable[..., AbstractContextManager[World]]) -> Iterator[World]:
    """The same rows, as a process has them that knows other code."""
    with ExitStack() as stack:
        yield stack.enter_context(open_world())
