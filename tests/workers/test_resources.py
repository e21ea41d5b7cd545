"""What effects share in a process: entered once, and left, whatever the others do."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from fsm_core import Effects
from tests.workers.jobs import jobs
from workers.resources import Loop, Resources

said: list[str] = []


@asynccontextmanager
async def awaited() -> AsyncIterator[str]:
    said.append("awaited entered")
    yield "awaited"
    said.append("awaited left")


@contextmanager
def plain() -> Iterator[str]:
    said.append("plain entered")
    yield "plain"
    said.append("plain left")


@contextmanager
def broken() -> Iterator[str]:
    yield "broken"
    raise ConnectionError("gone already")


def test_all_are_left_in_turn_whatever_one_of_them_raises(caplog: pytest.LogCaptureFixture) -> None:
    said.clear()
    loop = Loop()
    resources = Resources(loop)
    every = [Effects(jobs, resources=each) for each in (awaited, plain, broken)]

    entered = [resources.of(each) for each in (*every, *every)]
    resources.close()
    loop.stop()

    assert entered == ["awaited", "plain", "broken"] * 2
    assert said == ["awaited entered", "plain entered", "plain left", "awaited left"]
    assert "ConnectionError: gone already" in caplog.text
