"""A small machine for the tests of declarations: two working states, a final one, two actions."""

from dataclasses import dataclass
from typing import Any

from fsm_core import Failed, Machine, Untracked
from fsm_core.registry import AnyMachine


@dataclass(frozen=True)
class Idle:
    pass


@dataclass(frozen=True)
class Busy:
    job: int = 0


@dataclass(frozen=True)
class Over:
    pass


@dataclass(frozen=True)
class Go:
    pass


@dataclass(frozen=True)
class Stop:
    pass


@dataclass(frozen=True)
class Ring:
    pass


@dataclass(frozen=True)
class Tell:
    pass


@dataclass(frozen=True)
class Foreign:
    pass


State = Idle | Busy | Over


def make(**options: Any) -> AnyMachine:
    given: dict[str, Any] = {
        "states": State,
        "events": Go | Stop | Failed[Ring],
        "actions": Ring | Untracked[Tell],
        "final": Over,
    }
    return Machine("m", **{**given, **options})
