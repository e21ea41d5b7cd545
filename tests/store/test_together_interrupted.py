"""Ctrl-C in a thread whose calls go together with others' (test_together.py)."""

import sys
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import pytest
from sqlalchemy import Engine

from fsm_core.postgres import PostgresStore, groups
from fsm_core.postgres.flows.advance import Call
from fsm_core.postgres.flows.many import Answer
from fsm_core.postgres.sync import together as together_in_threads
from fsm_core.postgres.sync.together import Together
from tests.store.test_together import Slow, Visit, call, gate, queue
from tests.waiting import eventually

OURS = (groups.__file__, together_in_threads.__file__)


class Interrupted:
    """Ctrl-C in this thread, where Python looks for it the `at`-th time: where a function begins, or a C function is over."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, frame: FrameType, event: str, _arg: object) -> None:
        files = {each.f_code.co_filename for each in (frame, frame.f_back) if each is not None}
        if event in ("call", "c_return") and not files.isdisjoint(OURS):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def asks(self, together: Together, call: Call) -> Answer | None:
        sys.setprofile(self)
        try:
            return together.ask(gate.name, call)
        except KeyboardInterrupt:
            return None
        finally:
            sys.setprofile(None)


def test_who_is_interrupted_at_any_point_leaves_nobody_behind(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits, leads another, hands the lead on, and is interrupted a step later each time, until there is none left."""
    monkeypatch.setattr("fsm_core.postgres.groups.MOST", 2)
    store, at, step = PostgresStore(engine), 0, Interrupted(0)
    with ThreadPoolExecutor(4) as pool:
        while step.left <= 0:
            at, slow = at + 1, Slow()
            together, step = Together(slow, None), Interrupted(at)
            first = pool.submit(together.ask, gate.name, call(store, 0))
            eventually(lambda s=slow: s.groups, what="the first one leads")  # type: ignore[misc]
            second = pool.submit(step.asks, together, call(store, 1))
            waiting = queue(together).waiting
            eventually(lambda w=waiting, f=second: w or f.done(), what="it waits, or is gone")  # type: ignore[misc]
            behind = [pool.submit(together.ask, gate.name, call(store, n)) for n in (2, 3)]
            eventually(lambda w=waiting, f=second: len(w) == 3 - f.done(), what="so do the others")  # type: ignore[misc]
            slow.let.set()
            assert first.result(10).snapshot, at
            assert [future.result(10).call.event for future in behind] == [Visit("2"), Visit("3")], at
            assert second.result(10) is None or step.left > 0
            assert (queue(together).leader, queue(together).waiting) == (None, []), at
            assert len(slow.done) == len({id(each) for each in slow.done}), at
    assert at > 10
