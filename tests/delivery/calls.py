"""A machine whose actions are under limits: each event says how many, of whom, and under what."""

from dataclasses import dataclass

from fsm_core import Effects, Machine, Route, To


@dataclass(frozen=True)
class Idle:
    pass


@dataclass(frozen=True)
class Make:
    """Emit `times` calls."""

    times: int = 1
    tenant: str | None = "a"
    limit: str | None = "api"
    lane: str | None = None
    priority: int = 5
    queue: str = "default"


@dataclass(frozen=True)
class Call:
    number: int
    tenant: str | None
    limit: str | None
    lane: str | None
    priority: int
    queue: str


calls = Machine("calls", states=Idle, events=Make, actions=Call, initial=Idle())


@calls.on
def make(state: Idle, event: Make) -> To[Idle, Call]:
    asked = (event.tenant, event.limit, event.lane, event.priority, event.queue)
    return state, [Call(number, *asked) for number in range(event.times)]


@calls.route
def where(action: Call) -> Route:
    key = None if action.limit is None else action.tenant
    return Route(action.queue, action.priority, action.lane, limit=action.limit, limit_key=key)


effects = Effects(calls)
failing: set[str | None] = set()
"""Tenants whose calls fail; a test adds to it and clears it."""


@effects.act
def call(action: Call) -> None:
    if action.tenant in failing:
        raise ConnectionError("the API is away")
