"""A machine for the tests of the in-memory store: a desk that sends out errands and notes what came of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tenacity import wait_fixed

from fsm_core import (
    Attempt,
    Effects,
    Failed,
    Machine,
    NotDone,
    Rejected,
    Retry,
    Route,
    To,
    Untracked,
)  # fmt: skip
from fsm_core.memory import Clock, MemoryStore
from fsm_core.registry import AnyMachine

START = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Desk:
    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shut:
    pass


@dataclass(frozen=True)
class Send:
    name: str
    lane: str | None = None
    priority: int = 5


@dataclass(frozen=True)
class Done:
    name: str


@dataclass(frozen=True)
class Close:
    pass


@dataclass(frozen=True)
class Errand:
    name: str
    lane: str | None = None
    priority: int = 5


@dataclass(frozen=True)
class Tell:
    text: str


def build(*, bug: bool = False) -> AnyMachine:
    """The machine; with `bug`, the transition that takes results is broken."""
    desk = Machine(
        "desk",
        states=Desk | Shut,
        events=Send | Done | Close | Failed[Errand],
        actions=Errand | Untracked[Tell],
        initial=Desk(),
        final=Shut,
    )

    @desk.on
    def send(state: Desk, event: Send) -> To[Desk, Errand]:
        return state, [Errand(event.name, event.lane, event.priority)]

    @desk.on
    def done(state: Desk, event: Done) -> To[Desk, Tell]:
        if bug:
            raise ZeroDivisionError("a bug")
        if event.name == "unwanted":
            raise Rejected("we did not want that")
        return replace(state, done=(*state.done, event.name)), [Tell(event.name)]

    @desk.on
    def failed(state: Desk, event: Failed[Errand]) -> Desk:
        return replace(
            state, failed=(*state.failed, f"{event.action.name}: {event.error} ({event.attempts})")
        )

    @desk.on
    def close(state: Desk, event: Close) -> Shut:
        return Shut()

    @desk.route
    def where(action: Errand) -> Route:
        return Route(partition_key=action.lane, priority=action.priority)

    return desk


desk = build()


@dataclass(frozen=True)
class Locked:
    pass


@dataclass(frozen=True)
class Opened:
    guests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ring:
    pass


@dataclass(frozen=True)
class Unlocked:
    pass


@dataclass(frozen=True)
class Enter:
    name: str


@dataclass(frozen=True)
class Unlock:
    pass


gate = Machine(
    "gate",
    states=Locked | Opened,
    events=Ring | Unlocked | Enter,
    actions=Unlock,
    initial=Locked(),
    unhandled="defer",
)


@gate.on
def ring(state: Locked, event: Ring) -> To[Locked, Unlock]:
    return state, [Unlock()]


@gate.on
def unlocked(state: Locked, event: Unlocked) -> Opened:
    return Opened()


@gate.on
def enter(state: Opened, event: Enter) -> Opened:
    return Opened((*state.guests, event.name))


Outcome = Done | None


def done(action: Any, attempt: Any, store: MemoryStore) -> Outcome:
    """An errand that succeeds."""
    return Done(action.name) if isinstance(action, Errand) else None


def opened(run: Callable[..., Any], *, probe: Callable[..., Any] | None = None, **policy: Any) -> MemoryStore:
    """A store with one desk whose errands are run by `run(action, attempt, store)`: three attempts, a minute apart."""
    effects = Effects(desk)

    @effects.act(**{"retry": Retry(max_attempts=3, wait=wait_fixed(60)), **policy})
    def errand(action: Errand, attempt: Attempt[None]) -> Outcome:
        return run(action, attempt, store)

    @effects.act
    def tell(action: Tell) -> None:
        run(action, None, store)

    if probe is not None:

        @effects.probe
        def asked(action: Errand, attempt: Attempt[None]) -> Done | NotDone:
            return probe(action, attempt)

    store = MemoryStore(effects, clock=Clock(START))
    store.start(desk, 1)
    return store


def send(store: MemoryStore, *names: str, **options: Any) -> None:
    """Send out errands."""
    for name in names:
        store.advance(desk, 1, Send(name, **options))


def state(store: MemoryStore) -> Any:
    """Where the desk stands."""
    return store.get(desk, 1).state


def errands(store: MemoryStore) -> list[tuple[str, str, int, str | None]]:
    """Each errand's name, status, attempts and note."""
    return [
        (str(a.payload["name"]), a.status.value, a.attempt, a.note) for a in store.actions(action="Errand")
    ]


def outcomes(store: MemoryStore) -> list[list[str | None]]:
    """What became of each errand's attempts."""
    return [[attempt.outcome for attempt in a.attempts] for a in store.actions(action="Errand")]
