"""`waits-for-ever`: a state that nothing of the engine's own will ever move, by the signatures alone."""

from datetime import timedelta
from typing import Never

from fsm_core import After, Cancel, Effects, Failed, Machine, Rejected, To
from fsm_core.check import Code, Finding, check
from fsm_core.registry import AnyMachine
from fsm_core.types import ChildEnded, Spawn
from tests.core.worker import Busy, Foreign, Go, Idle, Over, Ring, Stop, Tell, make


def waiting() -> AnyMachine:
    """Idle goes on to Busy by itself; only Stop leads out of Busy, and nothing says for how long."""
    m = make(events=Go | Stop | Foreign | Failed[Ring], initial=Idle())

    @m.timeout(after=1)
    def go(state: Idle) -> Busy:
        return Busy()

    @m.on
    def stop(state: Busy, event: Stop) -> Over:
        return Over()

    return m


def waits(machine: AnyMachine, effects: "Effects[None] | None" = None) -> list[str]:
    return [f.subject for f in check(machine, effects) if f.code is Code.WAITS_FOR_EVER]


def test_a_state_that_only_somebody_outside_can_move_waits_for_ever() -> None:
    m = waiting()

    (finding,) = (f for f in check(m) if f.code is Code.WAITS_FOR_EVER)

    assert finding == Finding(
        Code.WAITS_FOR_EVER,
        "m: state Busy",
        "only what comes from outside leads on (Stop): declare a timeout",
        "Busy",
    )


def test_a_state_with_a_timeout_does_not_wait_for_ever() -> None:
    for after in (timedelta(days=1), lambda _state: 60):
        m = waiting()

        @m.timeout(after=after)
        def late(state: Busy) -> Over:
            return Over()

        assert waits(m) == []


def test_a_timeout_that_always_rejects_moves_nothing() -> None:
    m = waiting()

    @m.timeout(after=1)
    def late(state: Busy) -> Never:
        raise Rejected

    assert waits(m) == ["Busy"]


def test_a_state_that_every_edge_keeps_is_lived_in_and_waits_for_nothing() -> None:
    m = Machine("counter", states=Busy, events=Go)

    @m.on
    def count(state: Busy, event: Go) -> Busy:
        return Busy(state.job + 1)

    assert waits(m) == []


def test_a_state_that_is_entered_with_a_timer_waits_for_it() -> None:
    m = waiting()

    @m.enter
    def begin(state: Busy) -> list[After[Stop]]:
        return [After(60, Stop())]

    assert waits(m) == []


def test_a_timer_from_before_is_not_known_to_be_set_still() -> None:
    m = waiting()

    @m.enter
    def begin(state: Idle) -> list[After[Stop]]:
        return [After(60, Stop())]

    assert waits(m) == ["Busy"]


def test_the_end_of_a_child_is_waited_for_where_one_was_spawned_before() -> None:
    for spawns in (True, False):
        m = make(events=Go | ChildEnded[Over], initial=Idle())

        @m.timeout(after=1)
        def go(state: Idle) -> Busy:
            return Busy()

        @m.on
        def done(state: Busy, event: ChildEnded[Over]) -> Over:
            return Over()

        if spawns:

            @m.enter
            def begin(state: Idle) -> list[Spawn]:
                return []

        assert waits(m) == ([] if spawns else ["Busy"])


def test_what_only_the_engine_can_send_is_not_said_to_come_from_outside() -> None:
    m = waiting()

    @m.on
    def failed(state: Busy, event: Failed[Ring] | Foreign) -> Over:
        return Over()

    (message,) = (f.message for f in check(m) if f.code is Code.WAITS_FOR_EVER)

    assert message == "only what comes from outside leads on (Stop, Foreign): declare a timeout"


def test_a_timer_that_is_cancelled_brings_nothing() -> None:
    m = waiting()

    @m.enter
    def begin(state: Busy) -> list[Cancel]:
        return [Cancel("nap")]

    assert waits(m) == ["Busy"]


def test_an_edge_that_leaves_its_actions_open_may_start_a_timer() -> None:
    m = waiting()

    @m.on
    def again(state: Busy, event: Go) -> To[Busy]:
        return state

    assert waits(m) == []


def test_an_untracked_action_brings_nothing() -> None:
    m = waiting()

    @m.enter
    def begin(state: Busy) -> list[Tell]:
        return [Tell()]

    assert waits(m) == ["Busy"]


def test_an_action_is_waited_for_if_its_effect_may_bring_an_event_that_leads_on() -> None:
    m = waiting()

    @m.enter
    def begin(state: Busy) -> list[Ring]:
        return [Ring()]

    silent, other, bringing = Effects(m), Effects(m), Effects(m)

    @silent.act
    def ring(action: Ring) -> None: ...

    @other.act
    def ring_back(action: Ring) -> list[Foreign] | None: ...

    @bringing.act
    def ring_and_stop(action: Ring) -> list[Go | Stop] | None: ...

    assert waits(m) == []  # as long as nobody knows what it brings
    assert waits(m, silent) == waits(m, other) == ["Busy"]
    assert waits(m, bringing) == []


def test_an_action_is_waited_for_where_its_failure_leads_on() -> None:
    m = waiting()

    @m.enter
    def begin(state: Busy) -> list[Ring]:
        return [Ring()]

    @m.on
    def failed(state: Busy, event: Failed[Ring]) -> Over:
        return Over()

    silent: Effects[None] = Effects(m)

    @silent.act
    def ring(action: Ring) -> None: ...

    assert waits(m, silent) == []


def test_an_action_from_before_is_waited_for_only_if_it_is_known_to_bring_an_event() -> None:
    """Idle emits it, and Busy follows Idle: its own answer may have led there, unless an edge takes another one."""
    m = waiting()

    @m.enter
    def begin(state: Idle) -> list[Ring]:
        return [Ring()]

    bringing: Effects[None] = Effects(m)

    @bringing.act
    def ring(action: Ring) -> Stop: ...

    assert waits(m) == ["Busy"]
    assert waits(m, bringing) == []
