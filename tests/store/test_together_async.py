"""Tasks that advance machines at once go together, as threads do (test_together.py)."""

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from fsm_core.errors import Busy, DedupMismatch, FsmError, MachineNotFound, PoolExhausted, Rejected, WrongSeq
from fsm_core.postgres import AsyncPostgresStore
from fsm_core.postgres.aio.together import AsyncTogether
from fsm_core.postgres.flows.advance import Call
from fsm_core.postgres.flows.many import Answer
from tests.store.test_together import Open, Visit, gate

WITHIN = 30.0


class Slow:
    """Does calls when it is let, or those of `wait_for`'s numbers only, and remembers which came together."""

    def __init__(self, error: Exception | None = None, *, fails: int = 1) -> None:
        self.groups: list[int] = []
        self.let = asyncio.Event()
        self.began = asyncio.Event()
        self.wait_for: set[int] | None = None
        self._error, self._fails = error, fails

    async def __call__(self, calls: Sequence[Call]) -> list[Answer]:
        self.groups.append(len(calls))
        asyncio.get_running_loop().call_soon(self.began.set)
        if self.wait_for is None or len(self.groups) in self.wait_for:
            await asyncio.wait_for(self.let.wait(), WITHIN)
        if self._error is not None and len(self.groups) == self._fails:
            raise self._error
        return [Answer(call, snapshot=f"did {call.event}") for call in calls]  # type: ignore[arg-type]


def call(store: AsyncPostgresStore, number: int) -> Call:
    return store._call(gate, 7, Visit(str(number)), None)


def queue(together: AsyncTogether) -> Any:
    return together._loops[asyncio.get_running_loop()].of(gate.name, 0.0)


async def asked(
    engine: AsyncEngine, slow: Slow, count: int
) -> tuple[AsyncTogether, list[asyncio.Task[Answer]]]:
    """The first one leads and is held up; the others wait behind it."""
    store, together = AsyncPostgresStore(engine), AsyncTogether(slow, None)
    tasks = [asyncio.create_task(together.ask(gate.name, call(store, n))) for n in range(count)]
    await asyncio.wait_for(slow.began.wait(), WITHIN)
    assert len(queue(together).waiting) == count - 1, "tasks begin in their order"
    return together, tasks


async def test_what_waits_is_done_together_and_each_has_its_own_answer(async_engine: AsyncEngine) -> None:
    slow = Slow()
    together, tasks = await asked(async_engine, slow, 12)
    slow.let.set()

    assert [a.snapshot for a in await asyncio.gather(*tasks)] == [f"did {Visit(str(n))}" for n in range(12)]
    assert slow.groups == [1, 11]
    assert (queue(together).leader, queue(together).waiting) == (None, [])


async def test_what_fails_alone_is_raised_and_leaves_nobody_waiting(async_engine: AsyncEngine) -> None:
    slow = Slow(FsmError("away"))
    together, (first, *behind) = await asked(async_engine, slow, 5)
    slow.let.set()

    assert all(answer.snapshot for answer in await asyncio.gather(*behind))
    with pytest.raises(FsmError, match="away"):
        await first
    assert (queue(together).leader, queue(together).waiting) == (None, [])


async def test_a_group_that_fails_is_done_one_by_one(async_engine: AsyncEngine) -> None:
    slow = Slow(FsmError("away"), fails=2)
    together, (first, *behind) = await asked(async_engine, slow, 5)
    slow.let.set()

    assert all(answer == Answer(answer.call) for answer in await asyncio.gather(*behind))
    assert (await first).snapshot
    assert (queue(together).leader, queue(together).waiting) == (None, [])


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_who_is_cancelled_leaves_nobody_waiting(async_engine: AsyncEngine, number: int) -> None:
    """The one that leads, the one that is to lead next, and one that waits."""
    slow = Slow()
    together, tasks = await asked(async_engine, slow, 4)
    tasks[number].cancel()
    slow.let.set()
    answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WITHIN)

    assert isinstance(answers.pop(number), asyncio.CancelledError)
    assert all(isinstance(answer, Answer) and answer.snapshot for answer in answers)
    assert (queue(together).leader, queue(together).waiting) == (None, [])


async def test_who_is_cancelled_when_told_to_lead_hands_the_lead_on(async_engine: AsyncEngine) -> None:
    slow = Slow()
    together, (first, second, third) = await asked(async_engine, slow, 3)
    slow.let.set()
    await first
    second.cancel()  # told, and not run yet

    assert (await asyncio.wait_for(third, WITHIN)).snapshot
    assert second.cancelled() or (await second).snapshot
    assert (queue(together).leader, queue(together).waiting) == (None, [])


async def test_a_connection_that_hangs_holds_up_its_own_call_only(async_engine: AsyncEngine) -> None:
    slow = Slow()
    slow.wait_for = {1}
    store, together = AsyncPostgresStore(async_engine), AsyncTogether(slow, 0.01)
    first, *behind = [asyncio.create_task(together.ask(gate.name, call(store, n))) for n in range(3)]

    assert all(answer.snapshot for answer in await asyncio.wait_for(asyncio.gather(*behind), WITHIN))
    assert not first.done()
    slow.let.set()
    assert (await first).snapshot


@pytest.fixture
async def store(async_engine: AsyncEngine) -> AsyncPostgresStore:
    store = AsyncPostgresStore(async_engine, machines=[gate], lock_timeout=timedelta(milliseconds=300))
    for key in (7, 8):
        await store.start(gate, key)
    return store


def counted(store: AsyncPostgresStore, monkeypatch: pytest.MonkeyPatch, place: str) -> list[int]:
    """How large the groups are from now on."""
    groups: list[int] = []
    together = getattr(store, place)
    do = together._do

    async def counting(calls: Sequence[Call]) -> Sequence[Answer]:
        groups.append(len(calls))
        answers: Sequence[Answer] = await do(calls)
        return answers

    monkeypatch.setattr(together, "_do", counting)
    return groups


async def all_of(*calls: Awaitable[Any]) -> list[Any]:
    return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), WITHIN)


async def test_machines_of_one_name_go_together(
    store: AsyncPostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = counted(store, monkeypatch, "_together")
    _, seven, eight, nobody, odd, once, again, other, wrong = await all_of(
        store.advance(gate, 8, Visit()),
        store.advance(gate, 7, Visit()),
        store.advance(gate, 8, Visit()),
        store.advance(gate, 9, Visit()),
        store.advance(gate, 8, Visit("odd")),
        store.advance(gate, 7, Visit(), dedup_key="once"),
        store.advance(gate, 7, Visit(), dedup_key="once"),
        store.advance(gate, 7, Visit("other"), dedup_key="once"),
        store.advance(gate, 7, Visit(), expected_seq=7),
    )

    assert groups == [1, 8]
    assert (seven.seq, eight.seq) == (1, 2)
    assert [type(nobody), type(odd), type(other), type(wrong)] == [
        MachineNotFound, Rejected, DedupMismatch, WrongSeq,
    ]  # fmt: skip
    assert sorted([once.duplicate, again.duplicate]) == [False, True]
    assert once.seq == again.seq == 2
    assert (await store.get(gate, 7)).state == Open(2)


async def test_a_hot_machine_is_advanced_in_groups(
    store: AsyncPostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = counted(store, monkeypatch, "_together_hot")
    store._heat(call(store, 0))

    answers = await all_of(*(store.advance(gate, 7, Visit()) for _ in range(40)))

    assert sorted(answer.seq for answer in answers) == list(range(1, 41))
    assert max(groups) > 1
    assert (await store.get(gate, 7)).state == Open(40)


async def test_they_wait_for_a_lock_or_a_connection_together(
    store: AsyncPostgresStore, async_engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_decide_own", lambda *_: pytest.fail("done alone"))
    store._heat(call(store, 0))
    async with async_engine.begin() as other:
        await other.execute(text("SELECT 1 FROM fsm.machines FOR UPDATE"))
        answers = await all_of(*(store.advance(gate, 7, Visit()) for _ in range(4)))
    assert set(map(type, answers)) == {Busy}

    async def full(*_: object) -> None:
        raise PoolExhausted("nothing is free")

    monkeypatch.setattr(store, "_group", full)
    _, *answers = await all_of(*(store.advance(gate, 8, Visit()) for _ in range(4)))
    assert set(map(type, answers)) == {PoolExhausted}
