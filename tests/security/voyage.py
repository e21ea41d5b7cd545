"""A machine that uses everything once: a held signal, a timer, a limit, a retry, a failure, a child, a message, an end."""

import os
from dataclasses import dataclass
from datetime import timedelta

from tenacity import wait_fixed

from fsm_core import (
    After,
    Attempt,
    ChildEnded,
    Context,
    Effects,
    Failed,
    Machine,
    Permanent,
    Retry,
    Route,
    Send,
    Spawn,
    To,
)


@dataclass(frozen=True)
class Idle:
    secret: str = ""


@dataclass(frozen=True)
class Sailing:
    secret: str


@dataclass(frozen=True)
class Landing:
    secret: str


@dataclass(frozen=True)
class Moored:
    secret: str
    boats: int = 0


@dataclass(frozen=True)
class Home:
    secret: str


@dataclass(frozen=True)
class Sail:
    secret: str


@dataclass(frozen=True)
class Tick:
    pass


@dataclass(frozen=True)
class Landed:
    secret: str


@dataclass(frozen=True)
class Dock:
    secret: str


@dataclass(frozen=True)
class Land:
    secret: str


@dataclass(frozen=True)
class Scrub:
    """It always fails."""

    secret: str


@dataclass(frozen=True)
class Rowing:
    pass


@dataclass(frozen=True)
class Ashore:
    pass


@dataclass(frozen=True)
class Row:
    pass


boat = Machine("boat", states=Rowing | Ashore, events=Row, final=Ashore)


@boat.on
def row(_state: Rowing, _event: Row) -> Ashore:
    return Ashore()


State = Idle | Sailing | Landing | Moored | Home
Event = Sail | Tick | Landed | Dock | ChildEnded[Ashore] | Failed[Scrub]
voyage = Machine(
    "voyage",
    states=State,
    events=Event,
    actions=Land | Scrub,
    initial=Idle(),
    final=Home,
    unhandled="defer",
)


@voyage.on
def sail(_state: Idle, event: Sail) -> To[Sailing, After]:
    return Sailing(event.secret), [After(timedelta(milliseconds=50), Tick())]


@voyage.on
def tick(state: Sailing, _event: Tick) -> To[Landing, Land | Scrub]:
    return Landing(state.secret), [Land(state.secret), Scrub(state.secret)]


@voyage.on
def landed(_state: Landing, event: Landed, ctx: Context) -> To[Moored, Spawn | Send]:
    return Moored(event.secret), [Spawn(boat, ctx.key, Rowing()), Send(boat, ctx.key, Row())]


@voyage.on
def ashore(state: Moored, _event: ChildEnded[Ashore]) -> Moored:
    return Moored(state.secret, state.boats + 1)


@voyage.on
def scrubbed(state: Landing | Moored, _event: Failed[Scrub]) -> Landing | Moored:
    return state


@voyage.on
def dock(state: Moored, event: Dock) -> Home:
    return Home(event.secret)


@voyage.route
def pier(action: Land) -> Route:
    return Route(limit="pier", limit_key="one")


effects = Effects(voyage)


@effects.act(retry=Retry(max_attempts=3, wait=wait_fixed(0.01)))
def land(action: Land, attempt: Attempt[None]) -> Landed:
    if attempt.number == 1:
        raise OSError(f"no answer from {os.environ.get('VOYAGE_URL', 'https://harbour')}")
    return Landed(action.secret)


@effects.act
def scrub(action: Scrub) -> None:
    raise Permanent("no brush")
