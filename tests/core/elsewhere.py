"""A handler whose postponed annotations only its own module can resolve."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class State:
    pass


@dataclass(frozen=True)
class Event:
    pass


def keep(state: State, event: Event) -> State:
    return state
