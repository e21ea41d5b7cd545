"""A machine of timers only: it needs no effect."""

from dataclasses import dataclass
from datetime import timedelta

from fsm_core import After, Cancel, Effects, Machine, To


@dataclass(frozen=True)
class Idle:
    rings: int = 0


@dataclass(frozen=True)
class Busy:
    rings: int = 0


@dataclass(frozen=True)
class GaveUp:
    rings: int = 0


@dataclass(frozen=True)
class Arm:
    """Ring every `every` seconds, `times` times."""

    every: float
    times: int


@dataclass(frozen=True)
class Ring:
    every: float
    left: int


@dataclass(frozen=True)
class Disarm:
    pass


@dataclass(frozen=True)
class Work:
    pass


@dataclass(frozen=True)
class Rest:
    pass


State = Idle | Busy | GaveUp
Event = Arm | Ring | Disarm | Work | Rest

clock = Machine("clock", states=State, events=Event, initial=Idle(), final=GaveUp)
effects = Effects(clock)


@clock.on
def arm(state: Idle | Busy, event: Arm) -> To[Idle | Busy, After[Ring]]:
    return state, [After(event.every, Ring(event.every, event.times - 1), name="ring")]


@clock.on
def ring(state: Idle, event: Ring) -> To[Idle, After[Ring]]:
    again = [After(event.every, Ring(event.every, event.left - 1), name="ring")] if event.left else []
    return Idle(state.rings + 1), again


@clock.on
def disarm(state: Idle | Busy, _event: Disarm) -> To[Idle | Busy, Cancel]:
    return state, [Cancel("ring")]


@clock.on
def work(state: Idle, _event: Work) -> Busy:
    return Busy(state.rings)


@clock.on
def rest(state: Busy, _event: Rest) -> Idle:
    return Idle(state.rings)


@clock.timeout(after=timedelta(milliseconds=300))
def give_up(state: Busy) -> GaveUp:
    return GaveUp(state.rings)
