"""Threads that advance machines at once: what waits behind one of them is done with the next one's, and each has its own answer."""

import os
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
from fsm_core.errors import Busy, DedupMismatch, FsmError, MachineNotFound, PoolExhausted, WrongSeq
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.flows.advance import Call
from fsm_core.postgres.flows.many import Answer
from fsm_core.postgres.groups import MOST
from fsm_core.postgres.sync.together import Together
from tests.store import machines
from tests.store.machines import Serve, desk
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
    """Does calls when it is let, or those of `wait_for`'s numbers only, and remembers which came together."""

    def __init__(self, error: BaseException | None = None, *, fails: int = 1) -> None:
        self.groups: list[int] = []
        self.done: list[Call] = []
        self.let = threading.Event()
        self.wait_for: set[int] | None = None
        self._error, self._fails = error, fails

    def __call__(self, calls: Sequence[Call]) -> list[Answer]:
        self.groups.append(len(calls))
        if self.wait_for is None or len(self.groups) in self.wait_for:
            assert self.let.wait(30)
        if self._error is not None and len(self.groups) == self._fails:
            raise self._error
        self.done += calls
        return [Answer(call, snapshot=f"did {call.event}") for call in calls]  # type: ignore[arg-type]


def call(store: PostgresStore, number: int) -> Call:
    return store._call(gate, 7, Visit(str(number)), None)


def queue(together: Together) -> Any:
    return together._queues.of(gate.name, 0.0)


def asked(
    engine: Engine, slow: Slow, count: int, pool: ThreadPoolExecutor
) -> tuple[Together, list[Future[Answer]]]:
    """The first one leads and is held up; the others wait behind it."""
    store, together = PostgresStore(engine), Together(slow, None)
    first = pool.submit(together.ask, gate.name, call(store, 0))
    eventually(lambda: slow.groups, what="the first one leads")
    behind = [pool.submit(together.ask, gate.name, call(store, n)) for n in range(1, count)]
    eventually(lambda: len(queue(together).waiting) == count - 1, what="the others wait")
    return together, [first, *behind]


def test_what_waits_is_done_together_and_each_has_its_own_answer(engine: Engine) -> None:
    slow = Slow()
    with ThreadPoolExecutor(12) as pool:
        together, futures = asked(engine, slow, 12, pool)
        slow.let.set()
        answers = [future.result(30) for future in futures]

    assert slow.groups == [1, 11]
    assert [a.snapshot for a in answers] == [f"did {Visit(str(n))}" for n in range(12)]
    assert (queue(together).leader, queue(together).waiting) == (None, [])


def test_a_group_has_its_bound(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsm_core.postgres.groups.MOST", 4)
    slow = Slow()
    with ThreadPoolExecutor(10) as pool:
        _, futures = asked(engine, slow, 10, pool)
        slow.let.set()
        assert all(future.result(30).snapshot for future in futures)

    assert slow.groups == [1, 4, 4, 1]
    assert MOST > 4


@pytest.mark.parametrize("error", [FsmError("away"), TimeoutError("an alarm's"), KeyboardInterrupt()])
def test_what_fails_alone_is_raised_and_leaves_nobody_waiting(engine: Engine, error: BaseException) -> None:
    slow = Slow(error)
    with ThreadPoolExecutor(5) as pool:
        together, (first, *behind) = asked(engine, slow, 5, pool)
        slow.let.set()
        assert all(future.result(30).snapshot for future in behind)
        assert first.exception(30) is error

    assert (queue(together).leader, queue(together).waiting) == (None, [])


def test_a_group_that_fails_is_done_one_by_one(engine: Engine) -> None:
    """Nobody knows whose fault it was."""
    slow = Slow(FsmError("away"), fails=2)
    with ThreadPoolExecutor(5) as pool:
        together, (first, *behind) = asked(engine, slow, 5, pool)
        slow.let.set()
        assert all(future.result(30) == Answer(future.result().call) for future in behind)
        assert first.result(30).snapshot

    assert (queue(together).leader, queue(together).waiting) == (None, [])


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
    together = store._together_hot
    do = together._do

    def counted(calls: Sequence[Call]) -> Sequence[Answer]:
        groups.append(len(calls))
        return do(calls)

    monkeypatch.setattr(together, "_do", counted)
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


def test_a_connection_that_hangs_holds_up_its_own_call_only(engine: Engine) -> None:
    store, together = PostgresStore(engine), Together(hangs_once := Slow(), 0.01)
    hangs_once.wait_for = {1}
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(together.ask, gate.name, call(store, 0))
        eventually(lambda: hangs_once.groups, what="the first one leads")
        behind = [pool.submit(together.ask, gate.name, call(store, n)) for n in (1, 2)]
        assert all(future.result(30).snapshot for future in behind)
        assert not first.done()
        hangs_once.let.set()
        assert first.result(30).snapshot

    assert (queue(together).leader, queue(together).waiting) == (None, [])


def test_who_was_forked_waits_for_nobody(engine: Engine) -> None:
    """Those who lead and wait are threads of the process that it was forked from: they never end here."""
    slow = Slow()
    with ThreadPoolExecutor(3) as pool:
        together, futures = asked(engine, slow, 3, pool)
        store = PostgresStore(engine)
        child = os.fork()
        if child == 0:  # pragma: no cover - coverage does not see it
            slow.wait_for = set()
            os._exit(0 if together.ask(gate.name, call(store, 9)).snapshot else 1)
        slow.let.set()
        assert all(future.result(30).snapshot for future in futures)

    eventually(lambda: os.waitpid(child, os.WNOHANG) == (child, 0), what="the child has its answer")


class Held:
    """Holds up the store's first group, so that what comes meanwhile goes together."""

    def __init__(self, store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups: list[int] = []
        self.let = threading.Event()
        self._do = store._together._do
        self._store = store
        monkeypatch.setattr(store._together, "_do", self)
        monkeypatch.setattr(store._together, "_patience", None)

    def __call__(self, calls: Sequence[Call]) -> Sequence[Answer]:
        self.groups.append(len(calls))
        assert self.let.wait(30)
        return self._do(calls)

    def go(self, pool: ThreadPoolExecutor, *rest: Callable[[], Any]) -> list[Any]:
        """Calls that go together, in this order, behind one of another machine; what each returned or raised."""
        first = pool.submit(self._store.advance, gate, "first", Visit())
        eventually(lambda: self.groups, what="one is under way")
        futures: list[Future[Any]] = []
        for number, one in enumerate(rest):
            futures.append(pool.submit(one))
            waiting = self._store._together._queues.of(gate.name, 0.0).waiting
            eventually(lambda n=number, w=waiting: len(w) == n + 1, what="it waits")  # type: ignore[misc]
        self.let.set()
        first.result(30)
        answers = [future.exception(30) or future.result() for future in futures]
        assert self.groups == [1, len(rest)]
        return answers


@pytest.fixture
def store(engine: Engine) -> PostgresStore:
    store = PostgresStore(engine, machines=[gate])
    for key in ("first", 7, 8):
        store.start(gate, key)
    return store


def test_machines_of_one_name_go_together(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(8) as pool:
        seven, eight, nobody, odd, again = Held(store, monkeypatch).go(
            pool,
            lambda: store.advance(gate, 7, Visit()),
            lambda: store.advance(gate, 8, Visit()),
            lambda: store.advance(gate, 9, Visit()),
            lambda: store.advance(gate, 8, Visit("odd")),
            lambda: store.advance(gate, 7, Visit()),
        )

    assert [seven.seq, eight.seq, again.seq] == [1, 1, 2]
    assert [type(nobody), type(odd)] == [MachineNotFound, Rejected]
    assert (store.get(gate, 7).state, store.get(gate, 8).state) == (Open(2), Open(1))
    assert fsck(store.log(gate, 7), store.registry).findings == []


def test_dedup_keys_and_seqs_hold_within_a_group(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.advance(gate, 7, Visit(), dedup_key="before")
    with ThreadPoolExecutor(8) as pool:
        answers = Held(store, monkeypatch).go(
            pool,
            lambda: store.advance(gate, 7, Visit(), dedup_key="before"),
            lambda: store.advance(gate, 7, Visit(), dedup_key="now"),
            lambda: store.advance(gate, 7, Visit(), dedup_key="now"),
            lambda: store.advance(gate, 7, Visit("other"), dedup_key="before"),
            lambda: store.advance(gate, 7, Visit(), expected_seq=2),
            lambda: store.advance(gate, 7, Visit(), expected_seq=2),
            lambda: store.advance(gate, 8, Visit(), dedup_key="now"),
        )

    before, now, again, mismatch, third, wrong, eight = answers
    assert (before.seq, before.duplicate) == (1, True)
    assert sorted([(now.seq, now.duplicate), (again.seq, again.duplicate)]) == [(2, False), (2, True)]
    assert isinstance(mismatch, DedupMismatch)
    assert (third.seq, third.duplicate) == (3, False)
    assert isinstance(wrong, WrongSeq)
    assert (eight.seq, eight.duplicate) == (1, False)
    assert store.get(gate, 7).state == Open(3)


def test_a_machine_that_somebody_holds_holds_up_nobody_else(
    store: PostgresStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is passed over, and waited for by its own caller."""
    held = Held(store, monkeypatch)
    with ThreadPoolExecutor(8) as pool:
        with engine.begin() as other:
            other.execute(text("SELECT 1 FROM fsm.machines WHERE key = '7' FOR UPDATE"))
            seven = pool.submit(held.go, pool, lambda: store.advance(gate, 7, Visit()), eight_of(store))
            eventually(lambda: store.get(gate, 8).seq == 1, what="the other one is advanced")
            assert not seven.done()
        assert [answer.seq for answer in seven.result(30)] == [1, 1]


def eight_of(store: PostgresStore) -> Callable[[], Any]:
    return lambda: store.advance(gate, 8, Visit())


def test_a_pool_that_is_used_up_is_waited_for_once(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_decide_own", lambda *_: pytest.fail("done alone"))

    def full(*_: object) -> None:
        raise PoolExhausted("nothing is free")

    with ThreadPoolExecutor(8) as pool:
        held = Held(store, monkeypatch)
        monkeypatch.setattr(store, "_group", full)
        answers = held.go(pool, lambda: store.advance(gate, 7, Visit()), eight_of(store))

    assert [type(answer) for answer in answers] == [PoolExhausted, PoolExhausted]


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


def test_a_connection_that_hangs_holds_up_a_hot_machine_for_as_long_as_a_lock_may(engine: Engine) -> None:
    store = PostgresStore(engine, machines=[gate], lock_timeout=timedelta(milliseconds=100))
    store.start(gate, 7)
    store._heat(call(store, 0))
    store._together_hot._do = hangs_once = Slow()
    hangs_once.wait_for = {1}
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(store.advance, gate, 7, Visit("0"))
        eventually(lambda: hangs_once.groups, what="the first one leads")
        behind = [pool.submit(store.advance, gate, 7, Visit(str(n))) for n in (1, 2)]
        try:
            assert [str(future.result(30)) for future in behind] == [f"did {Visit(str(n))}" for n in (1, 2)]
            assert not first.done()
        finally:
            hangs_once.let.set()


def test_a_bug_is_met_once(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a call that comes alone: nobody else's may it be."""
    monkeypatch.setattr(store, "_decide_own", lambda *_: pytest.fail("done again"))

    with pytest.raises(KeyError):
        store.advance(gate, 7, Visit("bug"))


def test_what_takes_the_lock_by_its_nature_makes_no_machine_hot(engine: Engine) -> None:
    """A group could not do it: it would lock and read for nothing, each time."""
    store = PostgresStore(engine)
    store.start(desk, 1)
    store.advance(desk, 1, Serve("early"))
    store.advance(desk, 1, machines.Open())

    assert store.get(desk, 1).state == machines.Manned(("early",))
    assert not store._is_hot(store._call(desk, 1, Serve("later"), None))
