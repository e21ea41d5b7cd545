"""A machine that only counts."""

from dataclasses import dataclass

from fsm_core import Machine


@dataclass(frozen=True)
class Sum:
    n: int = 0


@dataclass(frozen=True)
class Bump:
    pass


notes = Machine("notes", states=Sum, events=Bump, initial=Sum())


@notes.on
def bump(state: Sum, _event: Bump) -> Sum:
    return Sum(state.n + 1)
