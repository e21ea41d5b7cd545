"""The machine of the benchmarks: counts what it was asked and what was answered, and has an effect that does nothing.

A cycle of it is one `Go`: a state written and committed before the effect, the effect in a worker, a state written after it.
"""

import time
from dataclasses import dataclass

from fsm_core import Effects, Machine, To

NAME = "bench"


@dataclass(frozen=True)
class Counted:
    """asked, answered: how often. began: when its last effect did, in seconds since 1970."""

    asked: int = 0
    answered: int = 0
    began: float = 0.0


@dataclass(frozen=True)
class Go:
    """nap: seconds that the effect waits, as if for somebody else's answer."""

    nap: float = 0.0


@dataclass(frozen=True)
class Done:
    began: float


@dataclass(frozen=True)
class Work:
    nap: float


bench = Machine(NAME, states=Counted, events=Go | Done, actions=Work, initial=Counted())


@bench.on
def go(state: Counted, event: Go) -> To[Counted, Work]:
    return Counted(state.asked + 1, state.answered, state.began), [Work(event.nap)]


@bench.on
def done(state: Counted, event: Done) -> Counted:
    return Counted(state.asked, state.answered + 1, event.began)


effects = Effects(bench)


@effects.act
def work(action: Work) -> Done:
    began = time.time()
    if action.nap:
        time.sleep(action.nap)
    return Done(began)
