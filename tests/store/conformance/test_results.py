"""Several open actions of one machine at once: each result names its own, in any order, and one too many changes nothing.

Source: FASM's TrackedActionCompleted { id, result }. Here the action carries the id, and so does what comes of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine

from fsm_core import Failed, Machine, Rejected, To
from fsm_core.delivery.finish import Finished, finish, late_json
from fsm_core.delivery.outcome import Again, Completed, GaveUp, Outcome, Result
from fsm_core.delivery.ports import Claimed, WorkerStore
from fsm_core.memory.outbox import MemoryOutbox
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.urls import engine_url
from fsm_core.registry import Registry
from tests.store.world import MemoryWorld, PostgresWorld, World


@dataclass(frozen=True)
class Till:
    open: tuple[int, ...] = ()
    receipts: tuple[tuple[int, str], ...] = ()
    failed: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Shut:
    pass


@dataclass(frozen=True)
class Bill:
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Charged:
    id: int
    receipt: str


@dataclass(frozen=True)
class Close:
    pass


@dataclass(frozen=True)
class Charge:
    id: int


till = Machine(
    "till",
    states=Till | Shut,
    events=Bill | Charged | Close | Failed[Charge],
    actions=Charge,
    initial=Till(),
    final=Shut,
)
REGISTRY = Registry([till])


@till.on
def bill(state: Till, event: Bill) -> To[Till, Charge]:
    return replace(state, open=(*state.open, *event.ids)), [Charge(n) for n in event.ids]


@till.on
def charged(state: Till, event: Charged) -> Till:
    return replace(settled(state, event.id), receipts=(*state.receipts, (event.id, event.receipt)))


@till.on
def failed(state: Till, event: Failed[Charge]) -> Till:
    return replace(settled(state, event.action.id), failed=(*state.failed, (event.action.id, event.error)))


@till.on
def close(_state: Till, _event: Close) -> Shut:
    return Shut()


def settled(state: Till, number: int) -> Till:
    if number not in state.open:
        raise Rejected(f"charge {number} is not open")
    return replace(state, open=tuple(n for n in state.open if n != number))


class Worker:
    """A worker's part of the delivery, on whatever store the world has: it claims, and hands in what the test says."""

    def __init__(self, world: World, registry: Registry = REGISTRY) -> None:
        self.world = world
        self.registry = registry
        self.outbox: WorkerStore
        if isinstance(world, MemoryWorld):
            self.outbox = MemoryOutbox(world.origin._tables)
        else:
            assert isinstance(world, PostgresWorld)
            self.outbox = PostgresOutbox(create_engine(engine_url(world.url)), cipher=world.cipher)

    def claims(self, by: str = "id") -> dict[Any, Claimed]:
        """What is due, published and claimed: the id of the charge, or what else tells actions apart -> its claim."""
        ticket = uuid4()
        if isinstance(self.outbox, PostgresOutbox):
            ids = [row.id for row in self.outbox.publish("default", 100, ticket)]
        else:
            assert isinstance(self.outbox, MemoryOutbox)
            ids = self.outbox.publish(100, ticket, lambda _row: True)
        claimed = self.outbox.claim(uuid4(), ids, ticket, uuid4())
        return {self.world.store.action(claim.id).payload[by]: claim for claim in claimed}

    def hand_in(self, claim: Claimed, outcome: Outcome) -> Finished:
        """Commit an outcome; one that comes too late is put on record, as the workers do."""
        finished = finish(self.outbox, self.registry, [Result(claim, outcome)])
        for result in finished.void:
            self.outbox.late(result.claimed.id, result.claimed.token, late_json(result, self.registry))
        return finished

    def answer(self, claim: Claimed, *events: object) -> Finished:
        """Hand in that the effect has returned these events."""
        return self.hand_in(claim, Completed(events))


@contextmanager
def worker_of(world: World, registry: Registry = REGISTRY) -> Iterator[Worker]:
    """A worker on the world's rows."""
    made = Worker(world, registry)
    try:
        yield made
    finally:
        if isinstance(made.outbox, PostgresOutbox):
            made.outbox.close()


@pytest.fixture
def worker(world: World) -> Iterator[Worker]:
    with worker_of(world) as made:
        yield made


def billed(world: World, *ids: int) -> None:
    world.store.start(till, 1)
    world.store.advance(till, 1, Bill(ids))


def shown(world: World) -> dict[int, tuple[str, str | None]]:
    """Each charge's status and note."""
    return {a.payload["id"]: (a.status.value, a.note) for a in world.store.actions()}


def log(world: World) -> list[tuple[str, dict[str, Any]]]:
    """What came after the bill."""
    return [(e.name, e.payload) for e in world.store.history(till, 1)[2:]]


def causes(world: World) -> list[str | None]:
    """The action behind each event, as the log's row has it."""
    rows = world.contents()["events"]
    return [row["event"].cause if "event" in row else row["cause"] for row in rows]


def test_results_find_their_own_action_in_whatever_order_they_come(world: World, worker: Worker) -> None:
    """The last comes first, one fails in between: the state knows which is which, and the log names the cause of each."""
    billed(world, 7, 8, 9)
    claims = worker.claims()

    worker.answer(claims[9], Charged(9, "r9"))
    assert world.store.get(till, 1).state == Till(open=(7, 8), receipts=((9, "r9"),))
    worker.hand_in(claims[7], GaveUp("card declined"))
    worker.answer(claims[8], Charged(8, "r8"))

    assert world.store.get(till, 1).state == Till(
        receipts=((9, "r9"), (8, "r8")), failed=((7, "card declined"),)
    )
    assert log(world) == [
        ("Charged", {"id": 9, "receipt": "r9"}),
        ("Failed[Charge]", {"action": {"id": 7}, "error": "card declined", "attempts": 1}),
        ("Charged", {"id": 8, "receipt": "r8"}),
    ]
    assert causes(world) == [None, None, *(str(claims[n].id) for n in (9, 7, 8))]
    assert shown(world) == {7: ("failed", None), 8: ("completed", None), 9: ("completed", None)}


def test_results_of_one_group_are_applied_each_to_its_own(world: World, worker: Worker) -> None:
    """Committed together, in the order in which they became ready."""
    billed(world, 7, 8, 9)
    claims = worker.claims()

    group = [Result(claims[n], Completed((Charged(n, f"r{n}"),))) for n in (8, 9, 7)]
    assert len(finish(worker.outbox, REGISTRY, group).done) == 3

    assert world.store.get(till, 1).state == Till(receipts=((8, "r8"), (9, "r9"), (7, "r7")))


def test_a_result_for_an_id_that_is_settled_is_ignored_with_its_reason(world: World, worker: Worker) -> None:
    """One effect that answers for another's id: its own action ends, with the transition's words; nothing else changes."""
    billed(world, 7, 8)
    claims = worker.claims()
    worker.answer(claims[7], Charged(7, "r7"))
    before = world.store.get(till, 1)

    finished = worker.answer(claims[8], Charged(7, "again"))

    assert (len(finished.done), finished.broken) == (1, [])
    now = world.store.get(till, 1)
    assert (now.state, now.seq) == (before.state, before.seq)
    assert shown(world)[8] == ("completed", "ignored: Rejected: charge 7 is not open")


def test_the_same_result_twice_is_applied_once(world: World, worker: Worker) -> None:
    """A finish that is repeated finds its own commit: no second event, no second end, no trace of a lateness."""
    billed(world, 7, 8)
    claims = worker.claims()
    worker.answer(claims[7], Charged(7, "r7"))
    before = world.contents()

    finished = worker.answer(claims[7], Charged(7, "r7"))

    assert (len(finished.done), finished.void) == (1, [])
    assert world.contents() == before


def test_a_result_that_comes_after_the_end_is_ignored_with_its_reason(world: World, worker: Worker) -> None:
    """The machine has moved on to where no edge takes it; the action completes, because its effect did happen."""
    billed(world, 7, 8)
    claims = worker.claims()
    worker.answer(claims[8], Charged(8, "r8"))
    world.store.advance(till, 1, Close())

    worker.answer(claims[7], Charged(7, "r7"))

    assert (world.store.get(till, 1).state, world.store.get(till, 1).seq) == (Shut(), 3)
    status, note = shown(world)[7]
    assert status == "completed"
    assert note is not None
    assert note.startswith("ignored: UnhandledEvent: ")
    assert "no edge for Charged in state Shut" in note


@pytest.mark.parametrize("whole", [True, False], ids=["machine", "action"])
def test_a_result_of_a_cancelled_action_is_recorded_with_its_attempt(
    world: World, worker: Worker, whole: bool
) -> None:
    """What the effect answered stands on record as ignored; no event, and the action stays cancelled."""
    billed(world, 7, 8)
    claims = worker.claims()
    if whole:
        world.store.cancel(till, 1, "changed their mind")
    else:
        world.store.cancel_action(claims[7].id, "changed their mind")
    seq = world.store.get(till, 1).seq

    finished = worker.answer(claims[7], Charged(7, "r7"))

    assert [result.claimed for result in finished.void] == [claims[7]]
    assert world.store.get(till, 1).seq == seq
    assert shown(world)[7] == ("cancelled", "changed their mind")
    assert [a.outcome for a in world.store.action(claims[7].id).attempts] == ["ignored"]
    (late,) = [row["late"] for row in world.contents()["attempts"]]
    assert "r7" in str(late)


def test_a_result_of_an_attempt_that_was_given_up_is_recorded_and_the_next_one_counts(
    world: World, worker: Worker
) -> None:
    """Two attempts of one charge: the first one's answer, which comes after all, is void; its sisters do not care."""
    billed(world, 7, 8)
    first = worker.claims()
    worker.hand_in(first[7], Again("timed out", timedelta(0), kind="timed_out"))
    second = worker.claims()

    late = worker.answer(first[7], Charged(7, "first"))
    worker.answer(first[8], Charged(8, "r8"))
    worker.answer(second[7], Charged(7, "second"))

    assert len(late.void) == 1
    assert world.store.get(till, 1).state == Till(receipts=((8, "r8"), (7, "second")))
    assert [a.outcome for a in world.store.action(second[7].id).attempts] == ["timed_out", "completed"]
    (kept,) = [row["late"] for row in world.contents()["attempts"]]
    assert "first" in str(kept)
