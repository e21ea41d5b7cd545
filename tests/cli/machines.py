"""Machines that are pickier than the door: one rejects and ends, one holds what comes too early, one has two versions."""

from dataclasses import dataclass, replace

from examples.door import door
from fsm_core import Effects, Machine, Rejected


@dataclass(frozen=True)
class Counting:
    coins: int = 0


@dataclass(frozen=True)
class Broken:
    pass


@dataclass(frozen=True)
class Coin:
    cents: int


@dataclass(frozen=True)
class Push:
    pass


@dataclass(frozen=True)
class Kick:
    pass


turnstile = Machine("turnstile", states=Counting | Broken, events=Coin | Push | Kick, final=Broken)


@turnstile.on
def coin(state: Counting, event: Coin) -> Counting:
    if event.cents < 10:
        raise Rejected("too small")
    return replace(state, coins=state.coins + 1)


@turnstile.on
def kick(_state: Counting, _event: Kick) -> Broken:
    return Broken()


patient = Machine(
    "patient", states=Counting | Broken, events=Coin | Push | Kick, initial=Counting(), unhandled="defer"
)


@patient.on
def early(_state: Counting, _event: Kick) -> Broken:
    return Broken()


@patient.on
def later(state: Broken, _event: Push) -> Broken:
    return state


@dataclass(frozen=True)
class New:
    pass


@dataclass(frozen=True)
class Ping:
    pass


@dataclass(frozen=True)
class Pong:
    pass


old = Machine("aging", states=New, events=Ping, initial=New())
new = Machine("aging", states=New, events=Pong, initial=New(), version=2)


@old.on
def ping(state: New, _event: Ping) -> New:
    return state


@new.on
def pong(state: New, _event: Pong) -> New:
    return state


no_effects = Effects(door)

not_a_machine = 3
