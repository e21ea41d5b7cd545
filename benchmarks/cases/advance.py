"""Deciding alone: transitions of the door on one core, against a `match` statement written by hand.

Both are given finito's seven events, again and again, and answer state and actions. The extra rows say what `enter`
and a context cost.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from benchmarks.frame import Options, Row, Target, Work, interleaved, per_second
from examples.door import (
    SEVEN,
    Action,
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
    close,
    door,
    lock,
    open_,
    unlock,
)
from fsm_core import Context, Machine, To, advance

TARGET = Target(least=400_000)
CTX = Context(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=7), "front", 1)

plain = Machine("plain", states=State, events=Event, actions=Action)
for function in (close, open_, lock, unlock):
    plain.on(function)

asking = Machine("asking", states=State, events=Event, actions=Action)


@asking.on
def close_in(_state: Opened, _event: Close, _ctx: Context) -> Closed:
    return Closed()


@asking.on
def open_in(_state: Closed, _event: Open, _ctx: Context) -> Opened:
    return Opened()


@asking.on
def lock_in(_state: Closed, event: Lock, _ctx: Context) -> Locked:
    return Locked(event.code)


@asking.on
def unlock_in(state: Locked, event: Unlock, _ctx: Context) -> To[Closed | Locked | Disabled, Action]:
    return unlock(state, event)


def by_hand(state: State, event: Event) -> tuple[State, list[Action]]:  # noqa: PLR0911 - one for each edge
    """What one would write without a library, `enter` left out."""
    match state, event:
        case Opened(), Close():
            return Closed(), []
        case Closed(), Open():
            return Opened(), []
        case Closed(), Lock(code):
            return Locked(code), []
        case Locked(code), Unlock(tried) if tried == code:
            return Closed(), []
        case Locked(_, 1), Unlock():
            return Disabled(), [CallThePolice()]
        case Locked(), Unlock():
            return replace(state, attempts=state.attempts - 1), [NotifyIRC("invalid code entered")]
        case _:
            return state, []


def entering_by_hand(state: State, event: Event) -> tuple[State, list[Action]]:
    """The same with `enter`."""
    after, actions = by_hand(state, event)
    if type(after) is not type(state):
        actions.append(NotifyIRC(f"door was {type(after).__name__.lower()}"))
    return after, actions


def run(options: Options) -> Iterator[Row]:
    """The rows."""
    assert [by_hand(Opened(), Close())] == [advance(plain, Opened(), Close())]
    assert [entering_by_hand(Opened(), Close())] == [advance(door, Opened(), Close())]
    took = interleaved(
        {
            "plain": deciding(plain),
            "by hand": writing(by_hand),
            "entering": deciding(door),
            "entering by hand": writing(entering_by_hand),
            "asking": deciding(asking, CTX),
        },
        times=options.size(70_000, len(SEVEN)),
        rounds=options.size(15),
    )
    match_, entering = took["by hand"], took["entering by hand"]
    yield per_second("transitions of the door", took["plain"], "match", match_, TARGET)
    yield per_second("the same with its enter actions", took["entering"], "match with enter", entering)
    yield per_second("the same with a context", took["asking"], "match", match_)


def deciding(machine: Machine[State, Event, Action], ctx: Context | None = None) -> Work:
    """The seven events, by `advance`."""

    def work(times: int) -> None:
        for _ in range(times // len(SEVEN)):
            state: State = Opened()
            for event in SEVEN:
                state, _actions = advance(machine, state, event, ctx)

    return work


def writing(step: Callable[[State, Event], tuple[State, list[Action]]]) -> Work:
    """The seven events, by a function."""

    def work(times: int) -> None:
        for _ in range(times // len(SEVEN)):
            state: State = Opened()
            for event in SEVEN:
                state, _actions = step(state, event)

    return work
