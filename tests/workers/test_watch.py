"""The clock over effects: whatever they do, their attempts end."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from fsm_core import Effects
from fsm_core.delivery.outcome import Again, Result
from fsm_core.registry import Registry
from tests.waiting import eventually
from tests.workers.jobs import Later, jobs
from tests.workers.test_finisher import result
from workers import effect as module
from workers.effect import Runner
from workers.isolated import Isolation


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def test_an_async_effect_that_blocks_its_loop_times_out(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loop cannot cancel it: the attempt is given up by the clock, and does not run for ever with a live lease."""
    monkeypatch.setattr(module, "GRACE", timedelta(0))
    effects = Effects(jobs)

    @effects.act(timeout=0.05)
    async def later(_action: Later) -> None:
        gate.wait()

    put: list[Result] = []
    runner = Runner(Registry([effects]), put.append, isolation=Isolation(()))
    runner.start()
    claimed = result().claimed._replace(action="Later", payload='{"plan": "x"}')
    thread = threading.Thread(target=runner.run, args=(claimed,))
    thread.start()

    (given_up,) = eventually(lambda: list(put), what="the attempt has ended")

    assert isinstance(given_up.outcome, Again)
    assert given_up.outcome.kind == "timed_out"
    gate.set()
    thread.join()
    assert [r.late for r in put] == [False, True]
    runner.stop()
