"""Timers in the pure core: what is emitted, what a declaration refuses, and which rows come of it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from fsm_core import After, At, Cancel, Context, Machine, Timeout, To, advance
from fsm_core.errors import DefinitionError, InvalidPayload, TransitionError, UnknownType
from fsm_core.payload import DEFAULT_LIMITS
from fsm_core.rows import Moment, Written, state_timer, written
from fsm_core.types import ActionId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOMENT = Moment(UUID(int=1), 3, NOW)


@dataclass(frozen=True)
class Idle:
    pass


@dataclass(frozen=True)
class Busy:
    limit: float = 5


@dataclass(frozen=True)
class Over:
    pass


@dataclass(frozen=True)
class Go:
    actions: str = ""


@dataclass(frozen=True)
class Ring:
    n: int = 0


def clock() -> Machine[Idle | Busy | Over, Go | Ring]:
    machine = Machine("clock", states=Idle | Busy | Over, events=Go | Ring, initial=Idle(), final=Over)

    @machine.on
    def go(state: Idle, event: Go) -> To[Busy, After[Ring] | Cancel]:
        return Busy(), [After(timedelta(seconds=3), Ring(1), name="tick"), Cancel("other")]

    @machine.timeout(after=lambda state: timedelta(seconds=state.limit))
    def give_up(state: Busy, ctx: Context) -> Over:
        assert ctx.seq > 0
        return Over()

    return machine


def rows(*actions: object) -> Written:
    return written(clock(), MOMENT, actions, DEFAULT_LIMITS)


def test_advance_lists_timers_with_the_actions() -> None:
    """They are data like any action; nothing waits."""
    assert advance(clock(), Idle(), Go()) == (
        Busy(),
        [After(timedelta(seconds=3), Ring(1), name="tick"), Cancel("other")],
    )


def test_a_state_timeout_is_an_edge_on_the_built_in_event() -> None:
    """Its function takes the state alone, and the context if it asks for one."""
    ctx = Context(NOW, UUID(int=1), "k", 2)

    assert advance(clock(), Busy(), Timeout("Busy"), ctx).state == Over()


def test_a_timers_row_knows_its_event() -> None:
    """Its outcome is known when it is set: nothing runs when it is due."""
    (row,) = rows(After(1.5, Ring(7), name="tick")).rows

    assert (row.name, row.timer, row.delay, row.idx) == ("After", "tick", timedelta(seconds=1.5), 0)
    assert row.outcome == '{"to":"completed","events":[{"name":"Ring","payload":{"n":7}}],"source":"timer"}'


def test_a_timer_without_a_name_is_nobodys_to_cancel() -> None:
    """Each has a name made of its own id, so two of them stand side by side."""
    first, second = rows(After(1, Ring()), After(1, Ring())).rows

    assert (first.timer, second.timer) == ("#3.0", "#3.1")


def test_setting_a_timer_again_ends_the_one_of_its_name() -> None:
    """Also within one event: the last one stands."""
    outbox = rows(After(1, Ring(1), name="tick"), After(2, Ring(2), name="tick"))

    assert [row.delay for row in outbox.rows] == [timedelta(seconds=2)]
    assert set(outbox.cancelled) == {"tick"}


def test_cancel_writes_no_row() -> None:
    outbox = rows(After(1, Ring(), name="tick"), Cancel("tick"))

    assert outbox == Written([], ["tick", "tick"])


@pytest.mark.parametrize(
    ("time", "delay"), [(NOW + timedelta(days=2), timedelta(days=2)), (NOW - timedelta(days=2), timedelta(0))]
)
def test_at_is_a_delay_from_the_events_time(time: datetime, delay: timedelta) -> None:
    """Judged by the recorded time of the event; what has passed is due at once."""
    (row,) = rows(At(time, Ring())).rows

    assert row.delay == delay


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (At(datetime(2026, 1, 1), Ring()), InvalidPayload),  # noqa: DTZ001 - the naive one is what is refused
        (After(timedelta(days=40_000), Ring()), InvalidPayload),
        (After(1, Ring(), name=""), InvalidPayload),
        (After(1, Ring(), name="state:Busy"), InvalidPayload),
        (Cancel("#1.0"), InvalidPayload),
        (After(1, Idle()), UnknownType),
        (After(1, Timeout("Busy")), UnknownType),
    ],
)
def test_a_wrong_timer_is_refused(action: object, error: type[Exception]) -> None:
    """Naive times, absurd delays, names of the engine's own, events that are none."""
    with pytest.raises(error):
        rows(action)


def test_a_state_timeout_may_depend_on_the_state() -> None:
    row = state_timer(clock(), ActionId(UUID(int=1), 3, 2), Busy(limit=9))

    assert row is not None
    assert (row.name, row.timer, row.delay) == ("Timeout", "state:Busy", timedelta(seconds=9))
    assert state_timer(clock(), ActionId(UUID(int=1), 3, 2), Idle()) is None


def test_declarations_are_checked() -> None:
    """Two timeouts for a state, one for a final state, a negative one, and names of built-ins are errors."""
    machine = clock()
    with pytest.raises(DefinitionError, match="has a timeout already"):

        @machine.timeout(after=1)
        def again(state: Busy) -> Over:
            return Over()

    with pytest.raises(DefinitionError, match="is final"):

        @machine.timeout(after=1)
        def never(state: Over) -> Idle:
            return Idle()

    with pytest.raises(DefinitionError, match="negative"):
        machine.timeout(after=-1)

    @dataclass(frozen=True)
    class After:
        pass

    with pytest.raises(DefinitionError, match="built-in"):
        Machine("m", states=Idle, events=Go, actions=After)


def test_other_values_are_still_no_actions() -> None:
    machine = Machine("m", states=Idle | Busy, events=Go)

    @machine.on
    def go(state: Idle, event: Go) -> To[Busy]:
        return Busy(), [Ring()]

    with pytest.raises(TransitionError, match="Ring"):
        advance(machine, Idle(), Go())
