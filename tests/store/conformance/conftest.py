"""The suite that every store passes, with a database and without: nothing here speaks SQL. What does is one folder up."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import pytest

from fsm_core.memory import MemoryStore
from tests.store.world import MEMORY_WORLDS, SEALED_WORLDS, WORLDS, World

OpenWorld = Callable[..., AbstractContextManager[World]]
MakeWorld = Callable[..., World]


@pytest.fixture(params=[*WORLDS, *SEALED_WORLDS, *MEMORY_WORLDS])
def open_world(request: pytest.FixtureRequest) -> OpenWorld:
    """Opens a store on the test's rows, with options of its own; one for each kind of store."""
    if request.param in MEMORY_WORLDS:
        return partial(MEMORY_WORLDS[request.param], MemoryStore())
    return partial((WORLDS | SEALED_WORLDS)[request.param], request.getfixturevalue("database_url"))
