"""The three reasons for which a step runs again, kept apart: it says so, it raised, its worker was lost."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from fsm_core import MachineStatus, Route
from fsm_core.errors import Permanent
from fsm_core.memory import MemoryStore
from fsm_core.steps import Await, Done, Gather, Next, Replay, StepContext, Steps, Stop
from tests.steps.drive import drive
from tests.steps.flows import Data, Flow, Paid, Word, flow, gives, raises
from tests.store.world import World


class Killed(BaseException):
    """The worker is gone."""


def with_handler(*gives_: Any) -> tuple[Flow, list[tuple[str, int, int, tuple[object, ...]]]]:
    """A flow whose handler gives these, one after the other; and what it was asked."""
    it, asked = flow(), list[tuple[str, int, int, tuple[object, ...]]]()
    answers = list(gives_)

    @it.steps.on_error
    def handle(reason: Exception, state: Data, ctx: StepContext) -> Replay[Data] | Next[Data] | Stop:
        asked.append((repr(reason), state.n, ctx.attempt, ctx.signals))
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[no-any-return]

    return it, asked


def test_an_exception_asks_the_handler_with_the_data_as_the_step_had_it(world: World) -> None:
    it, asked = with_handler(Replay(Data(5), 1), Next("b", Data(9)))
    it.will("a", raises(OSError("no net")))
    world.store.start(it.steps, "k", Next("a", Data(1)))

    drive(world, it.steps)

    assert asked == [("OSError('no net')", 1, 0, ()), ("OSError('no net')", 5, 1, ())]
    assert it.runs() == [("a", 1, 0), ("a", 5, 1), ("b", 9, 0)]
    assert world.store.get(it.steps, "k").state == Done()


def test_the_handler_is_shown_no_signals_and_replaying_keeps_them(world: World) -> None:
    it, asked = with_handler(Replay(Data()))
    it.will("a", gives(Await(Paid, Data())), raises(OSError()), gives(Done()))
    world.store.start(it.steps, "k", Next("a", Data()))
    world.store.signal(it.steps, "k", Paid(1))

    drive(world, it.steps)

    assert [signals for *_, signals in asked] == [()]
    assert [each.signals for each in it.seen] == [(), (Paid(1),), (Paid(1),)]


def test_without_a_handler_an_exception_stops_the_flow(world: World) -> None:
    it = flow()
    it.will("a", raises(OSError("no net")))
    world.store.start(it.steps, "k", Next("a", Data()))

    drive(world, it.steps)

    end = world.store.get(it.steps, "k")
    assert (end.state, end.status) == (Stop("OSError: no net"), MachineStatus.FAILED)
    assert len(it.seen) == 1


def test_a_permanent_error_is_an_exception_like_any(world: World) -> None:
    it, asked = with_handler(Next("b", Data()))
    it.will("a", raises(Permanent("never")))
    world.store.start(it.steps, "k", Next("a", Data()))
    drive(world, it.steps)
    assert len(asked) == 1
    assert world.store.get(it.steps, "k").state == Done()


@pytest.mark.parametrize("given", [ValueError("and I too"), 7, None, Replay(Paid()), Next("nowhere", Data())])
def test_a_handler_that_fails_too_stops_the_flow(given: Any) -> None:
    it, _ = with_handler(given)
    it.will("a", raises(OSError("no net")))
    store = MemoryStore(it.steps)
    store.start(it.steps, "k", Next("a", Data()))

    assert store.drain(jump=True).bugs == ()

    end = store.get(it.steps, "k")
    assert end.status == "failed"
    assert isinstance(end.state, Stop)
    assert end.state.reason.endswith(", while handling OSError: no net")
    assert len(it.seen) == 1


UNFIT = [
    Done({"rate": float("nan")}),
    Done([1, 2]),  # type: ignore[arg-type]
    Done({"text": "\0"}),
    Done({"text": "x" * 70_000}),
    Done({"of": Data}),
    Next("b", Data("many")),  # type: ignore[arg-type]
    Next("b", Paid()),
    Next("nowhere", Data()),
    Await("Nothing", Data()),
    Await([Paid, "Nothing"], Data()),
    Await(Paid, Data(), then="nowhere"),
    Await(Paid, Word()),
    Await(Paid, Data(), timeout=timedelta.max),
    Replay(Paid()),
    Gather([], Data(), "nowhere"),
    Gather([], Word(), "b"),
    Gather([], Data(), "b", need=1),
    Stop(7),  # type: ignore[arg-type]
    Stop("x" * 70_000),
    None,
    "done",
    (Done(), []),
    Route(),
]


@pytest.mark.parametrize("given", UNFIT, ids=lambda given: f"{given!r:.60}")
def test_an_outcome_that_the_flow_cannot_go_on_with_is_an_exception_of_the_step(given: Any) -> None:
    """Seen with `sound` giving it back unasked: the action stands as failed in its transition, and the flow waits for ever.

    Run again for ever, gen_durable's worker crashed over one that could not be written (its race 15).
    """
    it, asked = with_handler(Next("b", Data()))
    it.will("a", gives(given))
    store = MemoryStore(it.steps)
    store.start(it.steps, "k", Next("a", Data()))

    drained = store.drain(jump=True)

    assert drained.bugs == ()
    assert len(asked) == 1
    assert [each.step for each in it.seen] == ["a", "b"]
    assert store.get(it.steps, "k").state == Done()


def test_an_outcome_that_fits_alone_and_not_with_what_was_shown_is_one_too() -> None:
    """The state after an `Await` keeps the pack. Seen with the outcome alone encoded: a bug of the transition, for ever."""
    flows = Steps("texts", state=Word, signals=Word)

    @flows.step
    def a(state: Word, ctx: StepContext) -> Await[Word]:
        return Await(Word, Word("x" * 40_000 if ctx.signals else ""))

    store = MemoryStore(flows)
    store.start(flows, "k", Next("a", Word()))
    store.drain()
    store.signal(flows, "k", Word("y" * 40_000))

    assert store.drain().bugs == ()
    end = store.get(flows, "k").state
    assert isinstance(end, Stop)
    assert end.reason.startswith("PayloadTooLarge: state")


@pytest.mark.parametrize(
    "wrong", [lambda: Await([], Data()), lambda: Replay(Data(), -1), lambda: Gather([], Data(), 7)]
)
def test_what_is_no_outcome_at_all_raises_in_the_step(wrong: Any) -> None:
    it, asked = with_handler(Next("b", Data()))
    it.will("a", lambda _data, _ctx: wrong())
    store = MemoryStore(it.steps)
    store.start(it.steps, "k", Next("a", Data()))
    store.drain()
    assert len(asked) == 1
    assert store.get(it.steps, "k").state == Done()


def killed(it: Flow, times: int) -> tuple[MemoryStore, int]:
    """Start it with a worker that is lost `times` times in step `a`; how often that was."""
    it.will("a", *[raises(Killed())] * times, gives(Next("b", Data())))
    store = MemoryStore(it.steps)
    store.start(it.steps, "k", Next("a", Data(1)))
    lost = 0
    for _ in range(times):
        try:
            store.drain(jump=True)
        except Killed:
            lost += 1
    return store, lost


def test_a_lost_worker_runs_the_step_from_scratch_and_asks_no_handler() -> None:
    it, asked = with_handler(Stop("asked"))
    store, lost = killed(it, 2)

    store.drain(jump=True)

    assert lost == 2
    assert asked == []
    assert it.runs() == [("a", 1, 0), ("a", 1, 1), ("a", 1, 2), ("b", 0, 0)]
    assert store.get(it.steps, "k").state == Done()


def test_attempts_that_were_lost_count_in_the_handlers_too() -> None:
    """Replays and losses are one count: what the handler sees is how often the step was tried."""
    it, asked = with_handler(Replay(Data()), Next("b", Data()))
    it.will("a", raises(Killed()), raises(OSError()), raises(OSError()))
    store = MemoryStore(it.steps)
    store.start(it.steps, "k", Next("a", Data()))
    with pytest.raises(Killed):
        store.drain()

    store.drain(jump=True)

    assert [attempt for _, _, attempt, _ in asked] == [1, 2]


def test_a_lost_worker_keeps_what_the_step_was_shown() -> None:
    it = flow()
    it.will("a", gives(Await(Paid, Data())), raises(Killed()), gives(Done()))
    store = MemoryStore(it.steps)
    store.start(it.steps, "k", Next("a", Data()))
    store.signal(it.steps, "k", Paid(7))
    with pytest.raises(Killed):
        store.drain()

    store.drain(jump=True)

    assert [each.signals for each in it.seen] == [(), (Paid(7),), (Paid(7),)]


def test_a_step_that_kills_every_worker_ends_the_flow() -> None:
    it = flow(max_attempts=3)
    it.will("a", raises(Killed()))
    store = MemoryStore(it.steps)
    store.start(it.steps, "k", Next("a", Data()))
    for _ in range(3):
        with pytest.raises(Killed):
            store.drain(jump=True)

    store.drain(jump=True)

    end = store.get(it.steps, "k")
    assert (end.status, end.state) == ("failed", Stop("all 3 attempts were lost with their workers"))
    assert len(it.seen) == 3


def test_replays_have_no_such_cap() -> None:
    """They are the flow's own decision."""
    it = flow(max_attempts=2)
    it.will("a", lambda data, ctx: Replay(data) if ctx.attempt < 30 else Done())
    store = MemoryStore(it.steps)
    store.start(it.steps, "k", Next("a", Data()))
    store.drain()
    assert (store.get(it.steps, "k").status, len(it.seen)) == ("done", 31)


def test_a_run_beyond_its_time_is_a_lost_one() -> None:
    """It may still be at work: nobody is asked, it is tried again, and at last the flow stops."""
    it, asked = with_handler(Stop("asked"))
    store = MemoryStore()

    @it.steps.step(timeout=10)
    def slow(state: Data, ctx: StepContext) -> Done | Replay[Data]:
        if ctx.attempt == 0:
            store.clock.advance(11)
        return Done({"attempt": ctx.attempt})

    it.will("a", gives(Next("slow", Data())))
    store = store.reopen(it.steps)
    store.start(it.steps, "k", Next("a", Data()))

    store.drain(jump=True)

    assert store.get(it.steps, "k").state == Done({"attempt": 1})
    assert asked == []


def test_resources_and_the_key_of_a_run() -> None:
    """Entered once per worker; the idempotency key is that of the run, the same when a worker was lost under it."""
    entered, keys = list[str](), list[tuple[int, str]]()

    @contextmanager
    def clients() -> Iterator[str]:
        entered.append("in")
        yield "client"
        entered.append("out")

    it = flow(resources=clients)

    def look(data: Data, ctx: StepContext) -> Any:
        assert ctx.resources == "client"
        ctx.heartbeat()
        keys.append((ctx.attempt, ctx.idempotency_key))
        if ctx.attempt == 0:
            raise Killed
        return Next("b", data)

    it.will("a", look)
    it.will("b", look, gives(Done()))
    store = MemoryStore(it.steps)
    store.start(it.steps, "k", Next("a", Data()))
    for _ in range(2):
        with pytest.raises(Killed):
            store.drain(jump=True)
    store.drain(jump=True)

    assert entered == ["in", "out"] * 3
    assert [attempt for attempt, _ in keys] == [0, 1, 0]
    assert keys[0][1] == keys[1][1] != keys[2][1]


def test_a_context_made_by_hand_has_no_run() -> None:
    """So steps can be called in a test as the functions that they are."""
    ctx = StepContext("k", 0, (Paid(1), Word("x"), Paid(2)))
    assert ctx.signal(Paid) == Paid(1)
    assert ctx.signal(Data) is None
    with pytest.raises(RuntimeError):
        _ = ctx.idempotency_key
