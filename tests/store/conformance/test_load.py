"""What one machine may be asked: so many events in a span, so many open actions. A call beyond is refused, and changes nothing."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from fsm_core.errors import ConfigurationError, Overloaded
from fsm_core.payload import Limits
from tests.delivery.calls import Make, calls
from tests.store.conformance.conftest import OpenWorld
from tests.store.conformance.test_results import Bill, Charged, till, worker_of
from tests.store.counters import Bump, Sum, notes
from tests.store.world import World

HOUR = timedelta(hours=1)


def bump(world: World) -> object:
    return world.store.advance(notes, 1, Bump())


def signal(world: World) -> object:
    return world.store.signal(notes, 1, Bump())


def many(world: World) -> object:
    (answer,) = world.store.advance_many(notes, [(1, Bump())])
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.mark.parametrize("call", [bump, signal, many])
def test_a_machine_takes_no_more_events_in_a_span_than_it_may(
    open_world: OpenWorld, call: Callable[[World], object]
) -> None:
    """Its birth is one of them; a repeat is answered; another machine is not concerned; after the span it goes on."""
    with open_world(limits=Limits(events=3, per=HOUR)) as world:
        world.store.start(notes, 1)
        world.store.start(notes, 2)
        world.store.advance(notes, 1, Bump(), dedup_key="a")
        call(world)
        before = world.contents()

        with pytest.raises(
            Overloaded, match=r"notes/1 takes no more for now: it has had 3 events within 3600 s"
        ):
            call(world)

        assert world.contents() == before
        assert world.store.advance(notes, 1, Bump(), dedup_key="a").duplicate
        world.store.advance(notes, 2, Bump())
        world.pass_time(timedelta(milliseconds=30))
    with open_world(limits=Limits(events=3, per=timedelta(milliseconds=20))) as world:
        call(world)
        assert world.store.get(notes, 1).state == Sum(3)


def test_events_of_one_call_count_as_they_are_taken(open_world: OpenWorld) -> None:
    """Those of `advance_many` before the limit are taken, those after it refused, each machine by itself."""
    with open_world(limits=Limits(events=3, per=HOUR)) as world:
        for key in (1, 2):
            world.store.start(notes, key)

        answers = world.store.advance_many(notes, [(1, Bump())] * 4 + [(2, Bump())])

        assert [isinstance(answer, Overloaded) for answer in answers] == [False, False, True, True, False]
        assert [world.store.get(notes, key).state for key in (1, 2)] == [Sum(2), Sum(1)]


def test_a_machine_with_too_many_open_actions_takes_no_more(open_world: OpenWorld) -> None:
    """As soon as one has ended, it does; those of another machine are not counted."""
    with open_world(limits=Limits(open=3)) as world:
        for key in ("m", "other"):
            world.store.start(calls, key)
            world.store.advance(calls, key, Make(2, limit=None))
        world.store.advance(calls, "m", Make(1))
        before = world.contents()

        with pytest.raises(Overloaded, match="3 of its actions are open"):
            world.store.advance(calls, "m", Make(1))

        assert world.contents() == before
        world.store.advance(calls, "other", Make(1))
        world.store.cancel_action(world.store.actions(machine="calls", key="m")[0].id)
        assert world.store.advance(calls, "m", Make(1)).seq == 3


def test_results_are_taken_however_full_it_is(open_world: OpenWorld) -> None:
    """They are how it gets empty."""
    with open_world(limits=Limits(events=2, per=HOUR, open=2)) as world:
        world.store.start(till, 1)
        world.store.advance(till, 1, Bill((7, 8)))
        with worker_of(world) as worker:
            for number, claim in worker.claims().items():
                worker.answer(claim, Charged(number, f"r{number}"))

        assert [number for number, _ in world.store.get(till, 1).state.receipts] == [7, 8]


@pytest.mark.parametrize("given", [{"events": 0}, {"open": 0}, {"open": -1}, {"per": timedelta(0)}])
def test_a_cap_that_lets_nothing_through_is_refused(given: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="a cap is 1"):
        Limits(**given)  # type: ignore[arg-type]
