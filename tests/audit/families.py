"""A parent that spawns, tells and cancels children."""

from dataclasses import dataclass

from fsm_core import Failed, Machine, To
from fsm_core.types import CancelChildren, ChildEnded, Send, Spawn


@dataclass(frozen=True)
class Young:
    pass


@dataclass(frozen=True)
class Grown:
    mark: str = ""


@dataclass(frozen=True)
class Grow:
    mark: str = ""


child = Machine("child", states=Young | Grown, events=Grow, initial=Young(), final=Grown)


@child.on
def grow(_state: Young, event: Grow) -> Grown:
    return Grown(event.mark)


@dataclass(frozen=True)
class Home:
    heard: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bear:
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tell:
    key: str


@dataclass(frozen=True)
class Clear:
    pass


parent = Machine(
    "parent",
    states=Home,
    events=Bear | Tell | Clear | ChildEnded[Grown] | Failed[Spawn],
    initial=Home(),
)


@parent.on
def bear(state: Home, event: Bear) -> To[Home, Spawn]:
    return state, [Spawn(child, key or None) for key in event.keys]


@parent.on
def tell(state: Home, event: Tell) -> To[Home, Send]:
    return state, [Send(child, event.key, Grow("told"))]


@parent.on
def clear(state: Home, _event: Clear) -> To[Home, CancelChildren]:
    return state, [CancelChildren()]


@parent.on
def ended(state: Home, event: ChildEnded[Grown]) -> Home:
    return Home((*state.heard, f"{event.key} {event.state.mark}"))


@parent.on
def unborn(state: Home, event: Failed[Spawn]) -> Home:
    return Home((*state.heard, f"not {event.action.key}"))
