"""A machine whose life goes through every hot statement: work, timers, lanes, limits, children, messages, held events."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from fsm_core import After, Machine, Route, Send, Spawn, To
from fsm_core.registry import AnyMachine


@dataclass(frozen=True)
class Packed:
    weight: int = 0


@dataclass(frozen=True)
class Crate:
    """What an older version called Packed."""

    weight: int


@dataclass(frozen=True)
class Gone:
    where: str = ""


@dataclass(frozen=True)
class Move:
    how: Literal["plain", "timer", "lane", "limit", "child", "message"] = "plain"
    what: str = ""


@dataclass(frozen=True)
class Later:
    pass


@dataclass(frozen=True)
class Deliver:
    where: str = "home"


@dataclass(frozen=True)
class Carry:
    how: str
    what: str = ""


def way(action: Carry) -> Route:
    if action.how == "lane":
        return Route(partition_key=action.what)
    if action.how == "limit":
        return Route(limit="vans", limit_key=action.what)
    return Route()


def build(version: int = 1) -> AnyMachine:
    """The machine `parcel`, as a value of its own."""
    parcel = Machine(
        "parcel",
        states=Packed | Gone,
        events=Move | Later | Deliver,
        actions=Carry,
        initial=Packed(),
        final=Gone,
        unhandled="defer",
        version=version,
    )

    @parcel.on
    def move(state: Packed, event: Move) -> To[Packed, Carry | After | Spawn | Send]:
        match event.how:
            case "timer":
                return state, [After(timedelta(days=1), Later(), name="later")]
            case "child":
                return state, [Spawn(parcel, key=event.what, state=Packed(1))]
            case "message":
                return state, [Send(parcel, event.what, Move())]
            case how:
                return Packed(state.weight + 1), [Carry(how, event.what)]

    @parcel.on
    def later(state: Packed, event: Later) -> Packed:
        return state

    @parcel.on
    def deliver(state: Packed, event: Deliver) -> Gone:
        return Gone(event.where)

    parcel.route(way)
    if version > 1:

        @parcel.upcast(version - 1, "Packed")
        def packed(old: Crate) -> Packed:
            return Packed(old.weight)

    return parcel


parcel = build()
newer = build(2)
