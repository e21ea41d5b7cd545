"""What a declaration of steps must be, and what is made of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from fsm_core import ChildEnded, Failed, Machine, audit
from fsm_core.check import check
from fsm_core.diagram import draw
from fsm_core.errors import DefinitionError, UnknownType
from fsm_core.memory import MemoryStore
from fsm_core.registry import Registry
from fsm_core.steps import Await, Done, Gather, Next, Replay, StepContext, Steps, Stop
from tests.steps.drive import drive, pass_time
from tests.steps.flows import Data, Paid, Word, flow, gives, raises
from tests.store.world import World


@pytest.fixture
def steps() -> Steps[Data, Paid]:
    return Steps("flow", state=Data, signals=Paid)


def twice(steps: Steps[Data, Paid]) -> None:
    for _ in range(2):

        @steps.step
        def a(state: Data) -> Done:
            return Done()


def other_data(steps: Steps[Data, Paid]) -> None:
    @steps.step
    def a(state: Paid) -> Done:
        return Done()


def no_outcome(steps: Steps[Data, Paid]) -> None:
    @steps.step
    def a(state: Data) -> Done | int:
        return Done()


def outcome_of_other_data(steps: Steps[Data, Paid]) -> None:
    @steps.step
    def a(state: Data) -> Next[Paid]:
        return Next("a", Paid())


def no_annotation(steps: Steps[Data, Paid]) -> None:
    @steps.step
    def a(state: Data):  # type: ignore[no-untyped-def] # noqa: ANN202 - that is what it is about
        return Done()


def three_parameters(steps: Steps[Data, Paid]) -> None:
    @steps.step
    def a(state: Data, ctx: StepContext, more: int) -> Done:
        return Done()


def a_built_in(steps: Steps[Data, Paid]) -> None:
    @steps.step
    def Send(state: Data) -> Done:  # noqa: N802 - that is what it is about
        return Done()


def no_time(steps: Steps[Data, Paid]) -> None:
    steps.step(timeout=0)


def no_priority(steps: Steps[Data, Paid]) -> None:
    steps.step(priority=10)


def in_use(steps: Steps[Data, Paid]) -> None:
    MemoryStore().start(steps, "k", Done())

    @steps.step
    def a(state: Data) -> Done:
        return Done()


def two_handlers(steps: Steps[Data, Paid]) -> None:
    for _ in range(2):

        @steps.on_error
        def handle(reason: Exception, state: Data) -> Stop:
            return Stop("no")


def handler_of_some_errors(steps: Steps[Data, Paid]) -> None:
    @steps.on_error
    def handle(reason: OSError, state: Data) -> Stop:
        return Stop("no")


def async_handler(steps: Steps[Data, Paid]) -> None:
    @steps.on_error
    async def handle(reason: Exception, state: Data) -> Stop:
        return Stop("no")


def handler_of_other_data(steps: Steps[Data, Paid]) -> None:
    @steps.on_error
    def handle(reason: Exception, state: Paid) -> Stop:
        return Stop("no")


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (twice, "already"),
        (other_data, "its state is Data"),
        (no_outcome, "int is no outcome"),
        (outcome_of_other_data, "does not hold Data"),
        (no_annotation, "no annotation"),
        (three_parameters, "takes 1 positional"),
        (a_built_in, "built-in"),
        (no_time, "positive"),
        (no_priority, "priority"),
        (in_use, "in use"),
        (two_handlers, "already"),
        (handler_of_some_errors, "any Exception"),
        (async_handler, "plain function"),
        (handler_of_other_data, "its state is Data"),
    ],
)
def test_a_wrong_declaration_is_refused_where_it_is_made(
    steps: Steps[Data, Paid], declare: Callable[[Any], None], says: str
) -> None:
    with pytest.raises(DefinitionError, match=says):
        declare(steps)


def test_a_signal_may_not_be_called_like_an_outcome() -> None:
    @dataclass(frozen=True)
    class Done:
        pass

    with pytest.raises(DefinitionError, match="'Done'"):
        Steps("flow", state=Data, signals=Done)


def test_steps_need_no_signals_and_no_context() -> None:
    plain = Steps[Data]("plain", state=Data)

    @plain.step
    def only(state: Data) -> Done:
        return Done({"n": state.n})

    store = MemoryStore(plain)
    store.start(plain, "k", Next(only, Data(3)))
    store.drain()
    assert store.get(plain, "k").state == Done({"n": 3})


def test_a_flow_is_a_machine_whose_states_are_its_outcomes(steps: Steps[Data, Paid]) -> None:
    assert isinstance(steps, Machine)
    assert list(steps.states) == ["Next", "Replay", "Await", "Gather", "Done", "Stop"]
    assert [cls.__name__ for cls in steps.final] in (["Done", "Stop"], ["Stop", "Done"])
    assert steps.events["Paid"].from_outside
    assert not any(steps.events[name].from_outside for name in steps.states)


def test_it_passes_the_static_checks_whatever_of_it_is_used() -> None:
    """Seen with edges that did not say what they emit: `fsm check` and `fsm graph` raised."""
    bare = Steps("bare", state=Data)

    @bare.step
    def only(state: Data) -> Done:
        return Done()

    for it in (flow().steps, bare, flow(children=[bare]).steps):
        assert check(it, it.bundled) == ()


def test_its_picture_is_its_outcomes_and_the_actions_are_the_steps() -> None:
    graph = draw(flow().steps)

    assert [node.name for node in graph.nodes] == ["Next", "Replay", "Await", "Gather", "Done", "Stop"]
    assert graph.nodes[0].label == ("Next", "entry / a | b | c")
    arrows = {(arrow.source, arrow.target) for arrow in graph.arrows}
    assert ("Await", "Next") in arrows
    assert ("Await", "Done") not in arrows


async def test_async_steps_run_and_raise_like_any() -> None:
    entered = list[str]()

    @asynccontextmanager
    async def clients() -> AsyncIterator[str]:
        entered.append("in")
        yield "client"
        entered.append("out")

    web = Steps("web", state=Data, resources=clients)

    @web.step
    async def fetch(state: Data, ctx: StepContext[str]) -> Next[Data] | Replay[Data]:
        await asyncio.sleep(0)
        if ctx.attempt == 0:
            raise OSError("no net")
        return Next(store_it, Data(len(ctx.resources)))

    @web.step
    async def store_it(state: Data) -> Done:
        return Done({"n": state.n})

    @web.on_error
    def handle(reason: Exception, state: Data) -> Replay[Data]:
        return Replay(state)

    store = MemoryStore(web)
    store.start(web, "k", Next(fetch, Data()))
    await asyncio.to_thread(store.drain)

    assert store.get(web, "k").state == Done({"n": 6})
    assert entered == ["in", "out"]


def test_a_step_says_where_it_runs() -> None:
    it = Steps("it", state=Data, queue="checkout")

    @it.step
    def usual(state: Data) -> Next[Data]:
        return Next(slow, state)

    @it.step(queue="reports", priority=8, limit="api", limit_key=lambda data: f"tenant {data.n}")
    def slow(state: Data) -> Done:
        return Done()

    store = MemoryStore(it)
    store.limit("api", max_running=1)
    store.start(it, "k", Next(usual, Data(3)))
    store.drain()

    rows = {row.name: row for row in store._tables.actions.values()}
    assert [(row.queue, row.priority, row.limit_name, row.limit_key) for row in rows.values()] == [
        ("checkout", 5, None, None),
        ("reports", 8, "api", "tenant 3"),
    ]


def test_flows_of_one_partition_key_take_their_turns(world: World) -> None:
    """A flow that waits holds nobody back, one that replays does: its next run keeps the turn until its time."""
    it = flow()
    it.will("a", gives(Await(Paid, Data())))
    world.store.start(it.steps, "1", Next("a", Data(1)), partition_key="x")
    drive(world, it.steps, jump=False)
    it.will("b", gives(Replay(Data(), 3600)), gives(Done()))
    world.store.start(it.steps, "2", Next("b", Data(2)), partition_key="x")
    drive(world, it.steps, jump=False)
    world.store.start(it.steps, "3", Next("c", Data(3)), partition_key="x")
    drive(world, it.steps, jump=False)

    assert [step for step, _, _ in it.runs()] == ["a", "b"]

    pass_time(world, timedelta(hours=1))
    drive(world, it.steps, jump=False)
    assert [step for step, _, _ in it.runs()] == ["a", "b", "b", "c"]
    assert isinstance(world.store.get(it.steps, "1").state, Await)


def test_a_limit_key_that_raises_is_an_exception_of_the_step_before() -> None:
    it = flow()

    @it.steps.step(limit="api", limit_key=lambda data: str(1 // data.n))
    def limited(state: Data) -> Done:
        return Done()

    it.will("a", gives(Next(limited, Data(0))))
    store = MemoryStore(it.steps)
    store.start(it.steps, "k", Next("a", Data()))
    assert store.drain().bugs == ()
    assert store.get(it.steps, "k").state == Stop("ZeroDivisionError: integer division or modulo by zero")


def test_a_preview_says_which_step_a_signal_would_run(world: World) -> None:
    it = flow()
    it.will("a", gives(Await(Paid, Data(1))))
    world.store.start(it.steps, "k", Next("a", Data()))
    drive(world, it.steps)

    decision = world.store.preview(it.steps, "k", Paid(7))

    assert isinstance(decision.state, Next)
    assert (decision.state.step, decision.state.awaited[0].payload) == ("a", {"amount": 7})
    assert [type(action).__name__ for action in decision.actions] == ["a"]
    assert isinstance(world.store.get(it.steps, "k").state, Await)


def test_its_past_can_be_asked_for_and_its_record_is_sound(world: World) -> None:
    """The log is that of any machine: running flows and ended ones are replayed, each with what it was shown."""
    it = flow()
    it.will(
        "a",
        gives(Await([Paid, Word], Data(1), timeout=60)),
        gives(Replay(Data(2), 1)),
        gives(Next("b", Data(3))),
    )
    it.will("b", raises(OSError()))
    for key in ("done", "waits"):
        world.store.start(it.steps, key, Next("a", Data()))
    drive(world, it.steps, jump=False)
    world.store.signal(it.steps, "done", Word("x"))
    drive(world, it.steps)

    assert world.store.state_at(it.steps, "done", 1).state == Await(
        [Paid, Word], Data(1), timeout=60, then="a"
    )
    changed = world.store.diff(it.steps, "done", 2, 3)
    assert {change.path for change in changed.changes} >= {"state.n", "awaited[0]"}
    for log in world.store.logs():
        report = audit.fsck(log, Registry([it.steps]))
        assert (report.findings, report.events > 0) == ([], True)
    assert isinstance(world.store.get(it.steps, "done").state, Stop)


def test_nobody_from_outside_says_how_a_child_or_a_step_ended(steps: Steps[Data, Paid]) -> None:
    store = MemoryStore(steps)
    store.start(steps, "k", Done())
    for event in (ChildEnded("flow", "k", Done()), Failed(Data()), Gather([], Data(), "a"), Stop("x")):
        with pytest.raises(UnknownType):
            store.signal(steps, "k", event)  # type: ignore[arg-type]
