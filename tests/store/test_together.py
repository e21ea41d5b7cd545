"""Threads at one machine: what waits behind one of them is done with the next one's, and each has its own answer."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from fsm_core import Machine, Rejected
from fsm_core.audit import fsck
from fsm_core.errors import Busy, FsmError
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.flows.advance import Call
from fsm_core.postgres.flows.many import Answer
from fsm_core.postgres.sync.together import MOST, Together
from tests.waiting import eventually


@dataclass(frozen=True)
class Open:
    visits: int = 0


@dataclass(frozen=True)
class Visit:
    kind: str = "plain"


gate = Machine("gate", states=Open, events=Visit, initial=Open())


@gate.on
def visit(state: Open, event: Visit) -> Open:
    if event.kind == "odd":
        raise Rejected("not today")
    if event.kind == "bug":
        raise KeyError(event.kind)
    return Open(state.visits + 1)


class Slow:
    """Does calls when it is let, and remembers which came together."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.groups: list[int] = []
        self.let = threading.Event()
        self._error = error

    def __call__(self, calls: Sequence[Call]) -> list[Answer]:
        self.groups.append(len(calls))
        assert self.let.wait(30)
        if self._error is not None and len(self.groups) == 1:
            raise self._error
        return [Answer(call, snapshot=f"did {call.event}") for call in calls]  # type: ignore[arg-type]


def call(store: PostgresStore, number: int) -> Call:
    return store._call(gate, 7, Visit(str(number)), None)


def asked(
    engine: Engine, slow: Slow, count: int, pool: ThreadPoolExecutor
) -> tuple[Together, list[Future[Answer]]]:
    """The first one leads and is held up; the others wait behind it."""
    store, together = PostgresStore(engine), Together(slow)
    first = pool.submit(together.ask, call(store, 0))
    eventually(lambda: slow.groups, what="the first one leads")
    behind = [pool.submit(together.ask, call(store, n)) for n in range(1, count)]
    eventually(lambda: len(together._waiting[gate.name, "7"]) == count - 1, what="the others wait")
    return together, [first, *behind]


def test_what_waits_is_done_together_and_each_has_its_own_answer(engine: Engine) -> None:
    slow = Slow()
    with ThreadPoolExecutor(12) as pool:
        together, futures = asked(engine, slow, 12, pool)
        slow.let.set()
        answers = [future.result(30) for future in futures]

    assert slow.groups == [1, 11]
    assert [a.snapshot for a in answers] == [f"did {Visit(str(n))}" for n in range(12)]
    assert together._waiting == {}


def test_a_group_has_its_bound(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsm_core.postgres.sync.together.MOST", 4)
    slow = Slow()
    with ThreadPoolExecutor(10) as pool:
        _, futures = asked(engine, slow, 10, pool)
        slow.let.set()
        assert all(future.result(30).snapshot for future in futures)

    assert slow.groups == [1, 4, 4, 1]
    assert MOST > 4


@pytest.mark.parametrize("error", [FsmError("away"), KeyboardInterrupt()])
def test_who_leads_and_fails_leaves_nobody_waiting(engine: Engine, error: BaseException) -> None:
    """Nobody knows whose fault it was: the group is done one by one, those behind it go on."""
    slow = Slow(error)
    with ThreadPoolExecutor(5) as pool:
        together, (first, *behind) = asked(engine, slow, 5, pool)
        slow.let.set()
        assert all(future.result(30).snapshot for future in behind)
        if isinstance(error, Exception):
            assert first.result(30) == Answer(first.result().call)
        else:
            assert isinstance(first.exception(30), KeyboardInterrupt)

    assert together._waiting == {}


def test_who_is_interrupted_while_it_waits_hands_the_lead_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to lead, and gone: those behind it would wait for ever."""
    slow, store = Slow(), PostgresStore(engine)

    def interrupted(self: Together, address: Any, mine: Any) -> Answer:
        if mine.call.event == Visit("1"):
            raise KeyboardInterrupt
        return lead(self, address, mine)

    lead = Together._lead
    monkeypatch.setattr(Together, "_lead", interrupted)
    with ThreadPoolExecutor(4) as pool:
        together, (first, second, *others) = asked(engine, slow, 4, pool)
        together._waiting[gate.name, "7"].sort(key=lambda each: str(each.call.event))
        slow.let.set()
        assert isinstance(second.exception(30), KeyboardInterrupt)
        assert all(future.result(30).snapshot for future in (first, *others))

    assert together.ask(call(store, 9)).snapshot
    assert together._waiting == {}


def in_threads(store: PostgresStore, events: Sequence[Visit]) -> list[object]:
    """What each event was answered: a seq, or an error."""
    ready = threading.Barrier(len(events))

    def one(event: Visit) -> object:
        ready.wait(30)
        try:
            return store.advance(gate, 7, event).seq
        except (FsmError, KeyError) as error:
            return type(error)

    with ThreadPoolExecutor(len(events)) as pool:
        return list(pool.map(one, events))


def counting(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """How large the groups were."""
    groups: list[int] = []
    do = store._together._do

    def counted(calls: Sequence[Call]) -> Sequence[Answer]:
        groups.append(len(calls))
        return do(calls)

    monkeypatch.setattr(store._together, "_do", counted)
    return lambda: groups


def test_a_hot_machine_is_advanced_in_groups(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PostgresStore(engine, machines=[gate])
    store.start(gate, 7)
    groups = counting(store, monkeypatch)
    store._heat(call(store, 0))

    answers = [seq for _ in range(10) for seq in in_threads(store, [Visit()] * 8)]

    assert sorted(answers) == list(range(1, 81))  # type: ignore[type-var]
    assert max(groups()) > 1
    assert store.get(gate, 7).state == Open(80)
    assert fsck(store.log(gate, 7), store.registry).findings == []


def test_a_refusal_and_a_bug_are_their_own_callers(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug makes the whole group fail; done one by one, it hits nobody else."""
    store = PostgresStore(engine, machines=[gate])
    store.start(gate, 7)
    groups = counting(store, monkeypatch)
    for _ in range(20):
        store._heat(call(store, 0))
        kinds = ["plain", "odd", "plain", "bug", "plain", "plain"]
        answers = in_threads(store, [Visit(kind) for kind in kinds])
        assert [answers[1], answers[3]] == [Rejected, KeyError]
        assert all(isinstance(answers[n], int) for n in (0, 2, 4, 5))

    assert max(groups()) > 1
    assert store.get(gate, 7).state == Open(80)
    assert fsck(store.log(gate, 7), store.registry).findings == []


@pytest.mark.parametrize("given", [{"dedup_key": "once"}, {"expected_seq": 0}])
def test_who_asks_for_more_is_done_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    store = PostgresStore(engine, machines=[gate])
    store.start(gate, 7)
    groups = counting(store, monkeypatch)
    store._heat(call(store, 0))

    assert store.advance(gate, 7, Visit(), **given).seq == 1
    assert groups() == []


def test_they_wait_for_a_lock_together(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not each once more after the group: that would be twice as long as `lock_timeout` says."""
    store = PostgresStore(engine, machines=[gate], lock_timeout=timedelta(milliseconds=300))
    store.start(gate, 7)
    groups = counting(store, monkeypatch)
    store._heat(call(store, 0))
    monkeypatch.setattr(store, "_decide_own", lambda *_: pytest.fail("done alone"))

    with engine.begin() as other:
        other.execute(text("SELECT 1 FROM fsm.machines FOR UPDATE"))
        assert set(in_threads(store, [Visit()] * 4)) == {Busy}

    assert sum(groups()) == 4
