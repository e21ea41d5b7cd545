"""Callers that cross: each call is decided on the state that it is written to, once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from examples.door import door
from fsm_core.errors import DedupMismatch, FsmError
from tests.store.conformance.conftest import MakeWorld
from tests.store.machines import Manned, New, Note, Serve, desk, orders
from tests.store.machines import Open as OpenDesk

POOL = {"pool_size": 16}


def together(calls: list[Callable[[], Any]]) -> list[Any]:
    """Make all calls at the same moment; what each answered or refused."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return call()
        except FsmError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_sixteen_callers_of_one_machine_leave_no_gap(make_world: MakeWorld) -> None:
    """16 x 20 events: every one applied, every seq given once, the log gapless and the door where the log says."""
    world = make_world(engine=POOL)
    world.store.start(orders, 7, New(1))

    def twenty() -> list[int]:
        return [world.store.advance(orders, 7, Note()).seq for _ in range(20)]

    seqs = sorted(seq for answer in together([twenty] * 16) for seq in answer)

    assert seqs == list(range(1, 321))
    assert [e.seq for e in world.store.history(orders, 7)] == list(range(321))
    assert len(world.contents()["actions"]) == 640
    assert world.store.get(orders, 7).seq == 320


def test_crossing_starts_of_one_key_are_one_birth(make_world: MakeWorld) -> None:
    """One caller started it, the others found it; its actions are emitted once."""
    world = make_world(engine=POOL)

    answers = together([lambda: world.store.start(door, "front")] * 8)

    assert sorted(a.duplicate for a in answers) == [False] + [True] * 7
    assert len({a.id for a in answers}) == 1
    assert [len(world.contents()[table]) for table in ("events", "actions")] == [1, 1]


def test_crossing_calls_with_one_dedup_key_are_one_event(make_world: MakeWorld) -> None:
    """Whoever comes second answers what the first got."""
    world = make_world(engine=POOL)
    world.store.start(orders, 7, New(1))

    answers = together([lambda: world.store.advance(orders, 7, Note("same"), dedup_key="evt-1")] * 8)

    assert sorted((a.duplicate, a.seq) for a in answers) == [(False, 1)] + [(True, 1)] * 7
    assert len(world.store.history(orders, 7)) == 2


def test_crossing_calls_with_one_dedup_key_and_other_content_are_one_event(make_world: MakeWorld) -> None:
    """One is applied, the others are refused."""
    world = make_world(engine=POOL)
    world.store.start(orders, 7, New(1))

    def note(n: int) -> Callable[[], Any]:
        return lambda: world.store.advance(orders, 7, Note(n), dedup_key="evt-1")

    answers = together([note(n) for n in range(8)])

    assert sorted(type(a).__name__ for a in answers) == ["DedupMismatch"] * 7 + ["Snapshot"]
    assert {a.seq for a in answers if isinstance(a, DedupMismatch)} == {1}
    assert len(world.store.history(orders, 7)) == 2


def test_of_two_callers_who_expect_one_seq_one_is_refused(make_world: MakeWorld) -> None:
    """`expected_seq` holds under the lock as well."""
    world = make_world(engine=POOL)
    world.store.start(orders, 7, New(1))

    answers = together([lambda: world.store.advance(orders, 7, Note(), expected_seq=0)] * 8)

    assert sorted(type(a).__name__ for a in answers) == ["Snapshot"] + ["WrongSeq"] * 7


def test_holding_and_waking_cannot_miss_each_other(make_world: MakeWorld) -> None:
    """Events that come while the desk opens are served: none is left in the inbox of an open desk."""
    world = make_world(engine=POOL)
    for key in range(10):
        world.store.start(desk, key)

        def serve(n: int, key: int = key) -> Callable[[], Any]:
            return lambda: world.store.advance(desk, key, Serve(str(n)))

        together([serve(0), lambda key=key: world.store.advance(desk, key, OpenDesk()), serve(1), serve(2)])

        state = world.store.get(desk, key).state
        assert isinstance(state, Manned)
        assert sorted(state.served) == ["0", "1", "2"]
    assert world.contents()["inbox"] == []
