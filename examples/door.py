"""A lockable door that tells IRC what happens to it and calls the police on the third wrong code.

Source: finito's door (`finito-door`). This file is the pure part; what NotifyIRC and CallThePolice do is in
`examples/door_effects.py`. Run it, without any server: `python examples/door.py`.
"""

from dataclasses import dataclass, replace

from fsm_core import Machine, To, replay


@dataclass(frozen=True)
class Opened:
    """Wide open: anyone who fits through can go through."""


@dataclass(frozen=True)
class Closed:
    """Shut, but anyone can open it."""


@dataclass(frozen=True)
class Locked:
    """Waiting for its code; `attempts` wrong ones are left before it calls the police."""

    code: int
    attempts: int = 3


@dataclass(frozen=True)
class Disabled:
    """The police was called, and will have to unlock it."""


@dataclass(frozen=True)
class Open:
    """Somebody opens it."""


@dataclass(frozen=True)
class Close:
    """Somebody closes it."""


@dataclass(frozen=True)
class Lock:
    """Somebody enters a locking code."""

    code: int


@dataclass(frozen=True)
class Unlock:
    """Somebody tries a code."""

    code: int


@dataclass(frozen=True)
class NotifyIRC:
    """Tell the channel."""

    message: str


@dataclass(frozen=True)
class CallThePolice:
    """What it says."""


State = Opened | Closed | Locked | Disabled
Event = Open | Close | Lock | Unlock
Action = NotifyIRC | CallThePolice

# ordered: the channel reads what happened in the order in which it happened.
door = Machine(
    "door",
    states=State,
    events=Event,
    actions=Action,
    initial=Opened(),
    unhandled="ignore",
    ordered=True,
    accept={
        "waits-for-ever": "a door stays as it is until somebody comes",
        "dead-end:Disabled": "the police will have to unlock it",
        "unhandled-failure": "no door can mend the channel; a failed action stays for the operator",
    },
)


@door.on
def close(_state: Opened, _event: Close) -> Closed:
    return Closed()


@door.on
def open_(_state: Closed, _event: Open) -> Opened:
    return Opened()


@door.on
def lock(_state: Closed, event: Lock) -> Locked:
    return Locked(event.code)


@door.on
def unlock(state: Locked, event: Unlock) -> To[Closed | Locked | Disabled, Action]:
    if event.code == state.code:
        return Closed()
    if state.attempts == 1:
        return Disabled(), [CallThePolice()]
    return replace(state, attempts=state.attempts - 1), [NotifyIRC("invalid code entered")]


@door.enter
def announce(state: State) -> list[NotifyIRC]:
    return [NotifyIRC(f"door was {type(state).__name__.lower()}")]


SEVEN: list[Event] = [Close(), Open(), Close(), Lock(1234), Unlock(1234), Lock(4567), Unlock(1234)]
"""The events of finito's own test."""

if __name__ == "__main__":
    state, actions = replay(door, Opened(), SEVEN)
    assert state == Locked(code=4567, attempts=2)
    for action in actions:
        print(action)
    print(state)
