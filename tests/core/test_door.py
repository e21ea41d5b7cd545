"""The door of finito's own test, through the pure core alone."""

from dataclasses import dataclass

import pytest

from examples.door import (
    SEVEN,
    CallThePolice,
    Close,
    Closed,
    Disabled,
    Event,
    Lock,
    Locked,
    NotifyIRC,
    Open,
    Opened,
    State,
    Unlock,
    door,
)
from fsm_core import advance, begin, replay
from fsm_core.errors import UnknownType


def test_the_seven_events_of_finito_give_its_state_and_its_seven_lines() -> None:
    """Folding finito's seven events over an open door gives the state and the actions that its test expects."""
    assert replay(door, Opened(), SEVEN) == (
        Locked(code=4567, attempts=2),
        [
            NotifyIRC("door was closed"),
            NotifyIRC("door was opened"),
            NotifyIRC("door was closed"),
            NotifyIRC("door was locked"),
            NotifyIRC("door was closed"),
            NotifyIRC("door was locked"),
            NotifyIRC("invalid code entered"),
        ],
    )


def test_the_third_wrong_code_calls_the_police_and_disables_the_door() -> None:
    """Two wrong codes are only announced; the third calls the police first and announces the new state after."""
    wrong: list[Event] = [Unlock(0), Unlock(0), Unlock(0)]

    state, actions = replay(door, Locked(1234), wrong)

    assert state == Disabled()
    assert actions == [
        NotifyIRC("invalid code entered"),
        NotifyIRC("invalid code entered"),
        CallThePolice(),
        NotifyIRC("door was disabled"),
    ]


def test_enter_does_not_run_while_the_class_of_the_state_stays() -> None:
    """A wrong code changes the attempts of Locked, not its class: nobody is told that the door was locked."""
    assert advance(door, Locked(1, attempts=3), Unlock(2)) == (
        Locked(1, attempts=2),
        [NotifyIRC("invalid code entered")],
    )


def test_a_new_door_announces_itself() -> None:
    """Beginning runs `enter` of the initial state: the eighth action of the story."""
    assert begin(door, Opened()) == (Opened(), [NotifyIRC("door was opened")])


@pytest.mark.parametrize(
    ("state", "event"),
    [(Opened(), Lock(1)), (Disabled(), Unlock(1)), (Closed(), Close()), (Locked(1), Open())],
)
def test_what_no_edge_takes_leaves_the_door_as_it_is(state: State, event: Event) -> None:
    """Under unhandled="ignore" a pair without an edge keeps the very state and emits nothing."""
    after, actions = advance(door, state, event)

    assert after is state
    assert actions == []


def test_ignoring_is_not_believing_everything() -> None:
    """A state or an event of another machine is refused even where unhandled events are ignored."""

    @dataclass(frozen=True)
    class Kick:
        pass

    with pytest.raises(UnknownType, match="Kick is no event of machine 'door'"):
        advance(door, Opened(), Kick())  # type: ignore[arg-type]
    with pytest.raises(UnknownType, match="Kick is no state of machine 'door'"):
        advance(door, Kick(), Close())  # type: ignore[arg-type]
    with pytest.raises(UnknownType, match="Kick is no state"):
        begin(door, Kick())  # type: ignore[arg-type]


def test_advancing_twice_gives_the_same_answer_and_changes_no_argument() -> None:
    """`advance` is a function: the same arguments give equal decisions, and neither sees the other's list."""
    state = Locked(1, attempts=1)
    first, second = advance(door, state, Unlock(2)), advance(door, state, Unlock(2))
    first.actions.clear()

    assert second.actions == [CallThePolice(), NotifyIRC("door was disabled")]
    assert state == Locked(1, attempts=1)
