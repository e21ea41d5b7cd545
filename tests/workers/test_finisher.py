"""The finisher's own bookkeeping, with commits that do what the test says."""

import heapq
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from fsm_core.delivery.finish import Finished
from fsm_core.delivery.outcome import Completed, GaveUp, Result
from fsm_core.delivery.ports import Claimed, Move
from fsm_core.errors import DatabaseUnavailable
from fsm_core.registry import Registry
from fsm_core.types import ActionId
from tests.waiting import eventually
from tests.workers.jobs import Did, jobs
from workers import finisher as module
from workers.finisher import Finisher

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def result(plan: str = "one") -> Result:
    claimed = Claimed(
        ActionId(uuid4(), 1, 0), uuid4(), "jobs", "a", 1, "Work", "{}", tracked=True, queue="default", attempt=1,
        budget_from=0, lost=0, in_doubt=False, outcome=None, published_at=NOW, started_at=NOW, created_at=NOW,
    )  # fmt: skip
    return Result(claimed, Completed((Did(plan),)))


class Keeping:
    """A store that only takes moves."""

    def __init__(self) -> None:
        self.moves: list[Move] = []

    def move(self, moves: Sequence[Move]) -> set[ActionId]:
        self.moves += moves
        return {move.id for move in moves}


def due_at_once(finisher: Finisher, result: Result, _pause: float) -> None:
    heapq.heappush(finisher._stuck, (0.0, next(finisher._order), 0.0, result))


class Bench:
    """A finisher whose commits are `group` and `alone`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ended: list[Result] = []
        self.store = Keeping()
        self.group: Callable[[list[Result]], Finished] = lambda results: Finished(done=list(results))
        self.alone: Callable[[Result], Finished] = lambda one: Finished(done=[one])
        patch.setattr(Finisher, "_later", due_at_once)
        patch.setattr(module, "PATIENCE_AT_END", 0.2)
        patch.setattr(module, "finish", lambda _store, _registry, results: self.group(results))
        patch.setattr(module, "finish_alone", lambda _store, _registry, one: self.alone(one))
        self.finisher = Finisher(self.store, Registry([jobs]), self.ended.append)  # type: ignore[arg-type]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(monkeypatch)
    yield bench
    bench.alone = lambda one: Finished(done=[one])
    bench.finisher.stop()


def test_a_result_ends_once_whatever_its_neighbours_meet(bench: Bench) -> None:
    """Given a stuck neighbour that then meets a lost connection, what is committed is not accounted for again."""
    good, bad = result(), result()
    tries = 0

    def alone(one: Result) -> Finished:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise DatabaseUnavailable("away")
        return Finished(done=[one])

    bench.group = lambda results: Finished(
        done=[r for r in results if r is good], stuck=[r for r in results if r is bad]
    )
    bench.alone = alone
    bench.finisher.put(good)
    bench.finisher.put(bad)
    bench.finisher.start()

    assert bench.finisher.flush(5)
    assert tries == 2
    assert [r is good for r in bench.ended] == [True, False]


def test_what_is_stuck_holds_no_neighbour_up(bench: Bench) -> None:
    """While machines stay locked, what becomes ready is committed between two of their tries."""
    stuck, neighbour = [result(), result()], result()
    bench.group = lambda results: Finished(
        done=[r for r in results if r is neighbour], stuck=[r for r in results if r is not neighbour]
    )

    def alone(one: Result) -> Finished:
        if neighbour not in put:
            put.append(neighbour)
            bench.finisher.put(neighbour)
        return Finished(stuck=[one])

    put: list[Result] = []
    bench.alone = alone
    for one in stuck:
        bench.finisher.put(one)
    bench.finisher.start()

    eventually(lambda: bench.ended == [neighbour], what="the neighbour is committed")


def test_at_the_end_no_result_is_lost_that_was_put(bench: Bench) -> None:
    """A commit that hangs: what waits behind it is kept with its action, too, for somebody to apply."""
    hangs, release = threading.Event(), threading.Event()

    def group(results: list[Result]) -> Finished:
        hangs.set()
        release.wait(10)
        return Finished(done=list(results))

    first, behind = result("first"), result("behind")
    bench.group = group
    bench.finisher.put(first)
    bench.finisher.start()
    assert hangs.wait(5)
    bench.finisher.put(behind)

    bench.finisher.stop()

    kept = {move.id: move.outcome for move in bench.store.moves}
    assert '"behind"' in str(kept[behind.claimed.id])
    release.set()


def test_at_the_end_a_failure_is_kept_too(bench: Bench) -> None:
    """An effect that said `Permanent` must not run again because its machine was locked; a neighbour that cannot be kept costs none."""
    failed = replace(result(), outcome=GaveUp("no use"))
    failed = replace(failed, claimed=failed.claimed._replace(payload='{"plan": "permanent"}'))
    unreadable = replace(result(), outcome=GaveUp("no use"))
    for each in (unreadable, failed):
        bench.finisher.put(each)

    bench.finisher._keep([unreadable, failed])

    ((action, kept),) = [(move.id, str(move.outcome)) for move in bench.store.moves]
    assert action == failed.claimed.id
    assert '"to":"failed"' in kept
    assert '"name":"Failed[Work]"' in kept
    bench.finisher.start()
