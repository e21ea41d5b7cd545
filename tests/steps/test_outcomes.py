"""What each outcome does to state, attempt, time and signals: the table of docs/steps.md, row by row."""

from datetime import timedelta
from typing import Any

import pytest

from fsm_core import MachineStatus
from fsm_core.errors import InvalidPayload
from fsm_core.steps import Await, Done, Gather, Next, Replay, Stop
from tests.steps.drive import drive, pass_time
from tests.steps.flows import Data, Paid, Seen, Word, flow, gives, raises
from tests.store.world import World

SOON = timedelta(hours=1)


def names(world: World, machine: object, key: str = "k") -> list[str]:
    return [entry.name for entry in world.store.history(machine, key)]


def test_next_goes_on_at_once_with_the_new_data_and_attempt_0(world: World) -> None:
    it = flow()
    it.will("a", gives(Replay(Data(1))), gives(Next("b", Data(2))))
    world.store.start(it.steps, "k", Next("a", Data(0)))

    drive(world, it.steps)

    assert it.runs() == [("a", 0, 0), ("a", 1, 1), ("b", 2, 0)]
    assert names(world, it.steps) == ["Next", "Replay", "Next", "Done"]


def test_next_to_the_same_step_runs_it_again_from_attempt_0(world: World) -> None:
    it = flow()
    it.will("a", gives(Next("a", Data(1))), gives(Done()))
    world.store.start(it.steps, "k", Next("a", Data(0)))

    drive(world, it.steps)

    assert it.runs() == [("a", 0, 0), ("a", 1, 0)]


def test_next_takes_the_function_or_its_name() -> None:
    def ship(_state: Data) -> Done:
        return Done()

    assert Next(ship, Data()) == Next("ship", Data())


def test_replay_waits_for_its_time_and_counts_the_attempt(world: World) -> None:
    it = flow()
    it.will("a", gives(Replay(Data(1), SOON)), gives(Done()))
    world.store.start(it.steps, "k", Next("a", Data(0)))

    drive(world, it.steps, jump=False)
    assert it.runs() == [("a", 0, 0)]
    pass_time(world, SOON / 2)
    drive(world, it.steps, jump=False)
    assert len(it.seen) == 1

    pass_time(world, SOON / 2)
    drive(world, it.steps, jump=False)
    assert it.runs() == [("a", 0, 0), ("a", 1, 1)]


def test_replay_goes_on_counting(world: World) -> None:
    it = flow()
    it.will("a", lambda data, ctx: Replay(Data(data.n + 1), 1) if ctx.attempt < 5 else Done())
    world.store.start(it.steps, "k", Next("a", Data(0)))

    drive(world, it.steps)

    assert it.runs() == [("a", n, n) for n in range(6)]


def test_replay_is_shown_again_what_was_shown(world: World) -> None:
    """Nothing is consumed by it: the signals, and that the time was over."""
    it = flow()
    it.will("a", gives(Await([Paid, Word], Data(), timeout=SOON)), gives(Replay(Data())), gives(Done()))
    world.store.start(it.steps, "k", Next("a", Data()))
    drive(world, it.steps, jump=False)

    world.store.signal(it.steps, "k", Paid(7))
    drive(world, it.steps, jump=False)

    assert [each.signals for each in it.seen] == [(), (Paid(7),), (Paid(7),)]

    it.seen.clear()
    it.will("a", gives(Await(Paid, Data(), timeout=SOON)), gives(Replay(Data())), gives(Done()))
    world.store.start(it.steps, "l", Next("a", Data()))
    drive(world, it.steps)
    assert [(each.timed_out, each.attempt) for each in it.seen] == [(False, 0), (True, 0), (True, 1)]


def test_await_parks_until_a_signal_of_its_names_comes(world: World) -> None:
    it = flow()
    it.will("a", gives(Await(Paid, Data(1))), gives(Done()))
    world.store.start(it.steps, "k", Next("a", Data(0)))

    assert drive(world, it.steps) == 1
    assert world.store.get(it.steps, "k").state == Await(Paid, Data(1), then="a")
    assert world.store.signal(it.steps, "k", Word("no")).held
    assert drive(world, it.steps) == 0

    world.store.signal(it.steps, "k", Paid(7))
    drive(world, it.steps)
    assert it.seen == [Seen("a", 0, 0, (), False), Seen("a", 1, 0, (Paid(7),), False)]


def test_await_begins_a_new_count_of_attempts(world: World) -> None:
    it = flow()
    it.will("a", gives(Replay(Data())), gives(Await(Paid, Data())), gives(Done()))
    world.store.start(it.steps, "k", Next("a", Data()))
    drive(world, it.steps)

    world.store.signal(it.steps, "k", Paid())
    drive(world, it.steps)

    assert [each.attempt for each in it.seen] == [0, 1, 0]


def test_await_then_goes_on_with_another_step(world: World) -> None:
    it = flow()
    it.will("a", gives(Await(Paid, Data(1), then="b")))
    world.store.start(it.steps, "k", Next("a", Data(0)))
    drive(world, it.steps)

    world.store.signal(it.steps, "k", Paid(7))
    drive(world, it.steps)

    assert [(each.step, each.signals) for each in it.seen] == [("a", ()), ("b", (Paid(7),))]


def test_what_came_before_the_await_wakes_it_at_once(world: World) -> None:
    it = flow()
    it.will("a", gives(Await(Paid, Data(), timeout=SOON)), gives(Done()))
    world.store.start(it.steps, "k", Next("a", Data()))
    assert world.store.signal(it.steps, "k", Paid(7)).held

    drive(world, it.steps, jump=False)

    assert [each.signals for each in it.seen] == [(), (Paid(7),)]
    assert world.store.actions(action="After", status="pending") == []


def test_one_signal_wakes_and_the_rest_stay_for_the_next_await(world: World) -> None:
    """Each wake shows one more, the oldest first: that is how a pack of them comes together."""
    it = flow()
    it.will("a", lambda data, ctx: Await(Paid, data) if len(ctx.signals) < 3 else Next("b", data))
    world.store.start(it.steps, "k", Next("a", Data()))
    for n in range(4):
        world.store.signal(it.steps, "k", Paid(n))

    drive(world, it.steps)

    packs = [tuple(Paid(n) for n in range(size)) for size in range(4)]
    assert [each.signals for each in it.seen] == [*packs, ()]
    assert world.store.record(it.steps, "k").status == "done"


def test_going_on_consumes_what_was_shown_and_nothing_else(world: World) -> None:
    """A signal of the same name that came late survives: consumed is what was received, not what has the name."""
    it = flow()
    it.will("a", gives(Await(Paid, Data())), gives(Next("b", Data())))
    it.will("b", gives(Await(Paid, Data())), gives(Done()))
    world.store.start(it.steps, "k", Next("a", Data()))
    world.store.signal(it.steps, "k", Paid(1))
    world.store.signal(it.steps, "k", Paid(2))

    drive(world, it.steps)

    assert [(each.step, each.signals) for each in it.seen] == [
        ("a", ()), ("a", (Paid(1),)), ("b", ()), ("b", (Paid(2),)),
    ]  # fmt: skip


def test_signals_of_another_name_wait_for_a_later_await(world: World) -> None:
    it = flow()
    it.will("a", gives(Await(Word, Data())), gives(Next("b", Data())))
    it.will("b", gives(Await(Paid, Data())), gives(Done()))
    world.store.start(it.steps, "k", Next("a", Data()))
    drive(world, it.steps)

    world.store.signal(it.steps, "k", Paid(1))
    assert drive(world, it.steps) == 0
    world.store.signal(it.steps, "k", Word("x"))
    drive(world, it.steps)

    assert [each.signals for each in it.seen] == [(), (Word("x"),), (), (Paid(1),)]


def test_a_timeout_wakes_and_says_so(world: World) -> None:
    """It is no failure: the attempt is 0, and nothing was received."""
    it = flow()
    it.will("a", gives(Await(Paid, Data(1), timeout=SOON)), gives(Done()))
    world.store.start(it.steps, "k", Next("a", Data(0)))
    drive(world, it.steps, jump=False)
    assert len(it.seen) == 1

    pass_time(world, SOON)
    drive(world, it.steps, jump=False)

    assert it.seen[1] == Seen("a", 1, 0, (), True)


def test_a_timeout_shows_the_part_of_the_pack_that_came(world: World) -> None:
    it = flow()
    it.will("a", lambda data, ctx: Done() if ctx.timed_out else Await(Paid, data, timeout=SOON))
    world.store.start(it.steps, "k", Next("a", Data()))
    world.store.signal(it.steps, "k", Paid(1))

    drive(world, it.steps)

    assert [(each.signals, each.timed_out) for each in it.seen] == [
        ((), False), ((Paid(1),), False), ((Paid(1),), True),
    ]  # fmt: skip


def test_a_wake_ends_the_deadline_and_the_next_wait_has_its_own(world: World) -> None:
    it = flow()
    it.will(
        "a",
        gives(Await(Paid, Data(), timeout=SOON)),
        gives(Await(Paid, Data(), timeout=2 * SOON)),
        gives(Done()),
    )
    world.store.start(it.steps, "k", Next("a", Data()))
    drive(world, it.steps, jump=False)
    world.store.signal(it.steps, "k", Paid(1))
    drive(world, it.steps, jump=False)

    pass_time(world, SOON)
    drive(world, it.steps, jump=False)
    assert len(it.seen) == 2
    pass_time(world, SOON)
    drive(world, it.steps, jump=False)
    assert it.seen[2] == Seen("a", 0, 0, (Paid(1),), True)


def test_the_deadline_of_one_wait_does_not_end_the_next(world: World) -> None:
    """Seen with the timer left open by a wake: it ended a wait that has no deadline."""
    it = flow()
    it.will("a", gives(Await(Paid, Data(), timeout=SOON)), gives(Next("b", Data())))
    it.will("b", gives(Await(Paid, Data())), gives(Done()))
    world.store.start(it.steps, "k", Next("a", Data()))
    drive(world, it.steps, jump=False)
    world.store.signal(it.steps, "k", Paid())

    drive(world, it.steps)

    assert isinstance(world.store.get(it.steps, "k").state, Await)
    assert [each.timed_out for each in it.seen] == [False, False, False]


def test_done_is_the_end_with_its_result(world: World) -> None:
    it = flow()
    it.will("a", gives(Done({"shipped": True, "items": [1, None]})))
    world.store.start(it.steps, "k", Next("a", Data()))
    world.store.signal(it.steps, "k", Paid())

    drive(world, it.steps)

    end = world.store.get(it.steps, "k")
    assert (end.state, end.status) == (Done({"shipped": True, "items": [1, None]}), MachineStatus.DONE)
    assert drive(world, it.steps) == 0


def test_stop_is_the_end_as_a_failure(world: World) -> None:
    it = flow()
    it.will("a", gives(Stop("out of stock")))
    world.store.start(it.steps, "k", Next("a", Data()))

    drive(world, it.steps)

    end = world.store.get(it.steps, "k")
    assert (end.state, end.status) == (Stop("out of stock"), MachineStatus.FAILED)
    assert [r.key for r in world.store.machines(status="failed")] == ["k"]


@pytest.mark.parametrize(
    "wrong",
    [
        Await(Paid, Data()),
        Replay(Data()),
        Gather([], Data(), "a"),
        Next("nowhere", Data()),
        Next("a", Paid()),
        Await("Nothing", Data(), then="a"),
        Await(Paid, Data(), then="nowhere"),
    ],
)
def test_a_flow_starts_where_it_can_go_on(world: World, wrong: Any) -> None:
    it = flow()
    with pytest.raises(InvalidPayload):
        world.store.start(it.steps, "k", wrong)
    assert world.contents()["machines"] == []


def test_a_flow_may_begin_with_waiting(world: World) -> None:
    it = flow()
    world.store.start(it.steps, "k", Await(Paid, Data(3), timeout=SOON, then="b"))

    world.store.signal(it.steps, "k", Paid(7))
    drive(world, it.steps, jump=False)

    assert it.seen == [Seen("b", 3, 0, (Paid(7),), False)]


def test_nobody_sends_an_outcome(world: World) -> None:
    """Only the run of a step gives one."""
    it = flow()
    it.will("a", raises(AssertionError()))
    world.store.start(it.steps, "k", Next("a", Data()))
    for verb in (world.store.signal, world.store.advance, world.store.preview):
        with pytest.raises(Exception, match="Done"):
            verb(it.steps, "k", Done())
