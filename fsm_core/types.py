"""The values that everything else speaks of. Stdlib only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, Union
from uuid import UUID

from fsm_core.errors import InvalidKey, TransitionError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from typing_extensions import TypeVar as DefaultTypeVar

    from fsm_core.machine import Machine

    _S = DefaultTypeVar("_S")
    _A = DefaultTypeVar("_A", default=object)

S_co = TypeVar("S_co", covariant=True)
A_co = TypeVar("A_co", covariant=True)
E_co = TypeVar("E_co", covariant=True)
T = TypeVar("T")

Key: TypeAlias = str | int | UUID
"""How a caller names a machine; kept as text, unique per machine name."""

MAX_KEY = 255
MAX_PRIORITY = 9
QUEUE_LIMIT = "queue:"
"""What begins the name of a limit that holds for every action of a queue, `queue:checkout`; no action asks for one."""


class _Mark:
    """What `Untracked[T]` is annotated with."""

    def __repr__(self) -> str:
        return "untracked"


UNTRACKED = _Mark()

Untracked = Annotated[T, UNTRACKED]
"""Marks a fire-and-forget action in a machine's union of actions: run at most once, never retried."""


@dataclass(frozen=True)
class ToAlias:
    """`To[S, A]` as it stands in an annotation at run time: the states and the actions that an edge names."""

    states: object
    actions: object = None

    def __or__(self, other: object) -> object:
        return Union[self, other]  # noqa: UP007 - `|` is this very method

    def __ror__(self, other: object) -> object:
        return Union[other, self]  # noqa: UP007 - `|` is this very method


if TYPE_CHECKING:
    To = Union[_S, tuple[_S, Sequence[_A]]]  # noqa: UP007 - a generic alias
else:

    class To:
        """`To[S, A]`: an S, or an S and a sequence of A. `To[S]` leaves the actions open.

        A class and not typing's own alias: substituting a defaulted TypeVar raises on Python 3.13.0.
        """

        def __class_getitem__(cls, item: object) -> ToAlias:
            return ToAlias(*item) if isinstance(item, tuple) else ToAlias(item)


class Decision(NamedTuple, Generic[S_co, A_co]):
    """What `advance` answers: the state after the event, and the actions in the order of emission."""

    state: S_co
    actions: list[A_co]


@dataclass(frozen=True, slots=True)
class Failed(Generic[A_co]):
    """The built-in event that tells a machine that one of its tracked actions failed for good.

    `error` is "type: message" of the last attempt, `attempts` how often the effect was started, or its probe asked. Only the engine makes one.
    """

    action: A_co
    error: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Timeout:
    """The built-in event of `@machine.timeout`: the machine has been in `state` for long enough. Only the engine makes one."""

    state: str


@dataclass(frozen=True, slots=True)
class After(Generic[S_co]):
    """A built-in action: `event` comes back after `delay` (a timedelta, or seconds), durably, to the second or better.

    name: for `Cancel`, and setting it again replaces the timer of that name. Source: Erlang's gen_statem, generic timeouts.
    """

    delay: timedelta | float
    event: S_co
    name: str | None = None


@dataclass(frozen=True, slots=True)
class At(Generic[S_co]):
    """As `After`, at a time (aware). One that has passed is due at once."""

    time: datetime
    event: S_co
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """A built-in action: the open timer of that name ends without its event. None open: nothing happens."""

    name: str


@dataclass(frozen=True, slots=True)
class Send:
    """A built-in action: `event` reaches another machine, durably, as an `advance` of its own transaction.

    machine: the machine, or its name (where two modules talk to each other; then the event is checked when it is
    delivered). A machine that is not there yet is waited for, a day at most. One that refuses the event has refused it:
    the action notes why, the sender is not told.
    """

    machine: Machine[Any, Any, Any] | str
    key: Key
    event: object

    if TYPE_CHECKING:

        def __init__(self, machine: Machine[Any, T, Any] | str, key: Key, event: T) -> None: ...


@dataclass(frozen=True, slots=True)
class Spawn:
    """A built-in action: a child machine is born in the very transaction that emits it.

    key: the child's (None: `<parent's key>/<seq>.<idx>`). state: its initial state (None: the machine's `initial`). When
    the child reaches a final state the parent gets `ChildEnded[that state]`; if it cannot be born, because the key is
    taken, or is cancelled, `Failed[Spawn]`, whose action names machine and key. detached: it is nobody's child: its end is told
    to nobody, and it is not cancelled with its parent. Read back from a row, `machine` is a name.
    """

    machine: Machine[Any, Any, Any] | str
    key: Key | None = None
    state: object = None
    detached: bool = False

    if TYPE_CHECKING:

        def __init__(
            self, machine: Machine[T, Any, Any] | str, key: Key | None = None, state: T | None = None, *,
            detached: bool = False,
        ) -> None: ...  # fmt: skip


@dataclass(frozen=True, slots=True)
class CancelChildren:
    """A built-in action: all children of this machine that still live are cancelled, and theirs; not those it bears later.

    Cancelling a machine from outside does the same by itself; reaching a final state does not.
    """


@dataclass(frozen=True, slots=True)
class ChildEnded(Generic[S_co]):
    """The built-in event that tells a parent that its child `machine`/`key` has ended in the final state `state`.

    Only the engine makes one, exactly once per child. Dispatched by the state's class, as `Failed` is by its action's.
    """

    machine: str
    key: str
    state: S_co


class Internal:
    """What marks an event that only the engine's own effects may bring: from outside it is refused."""


class Change(NamedTuple, Generic[S_co, E_co]):
    """What `@machine.project` is given: one event of the log, and the states before and after it.

    At the birth (`seq` 0) `before` and `event` are None. `at` is the recorded time.
    """

    key: str
    seq: int
    at: datetime
    before: S_co | None
    event: E_co | None
    after: S_co


ENGINE_EVENTS = (Failed, Timeout, ChildEnded)
"""The events that only the engine makes; from outside they are refused."""

WRAPPERS = (Failed, ChildEnded)
"""The events that are dispatched by what they hold: `Failed` by its action, `ChildEnded` by its state."""

TIMERS = (After, At)
MESSAGES = (Send, Spawn, CancelChildren)
BUILT_IN = (*TIMERS, Cancel, *MESSAGES)
"""The actions that every machine may emit, and that need no effect."""


def wrapped(event: Failed[object] | ChildEnded[object]) -> object:
    """What a wrapper holds."""
    return event.action if isinstance(event, Failed) else event.state


Unhandled: TypeAlias = Literal["reject", "ignore", "defer"]


@dataclass(frozen=True, slots=True)
class Route:
    """Where an action goes; decided when it is committed, by every process that commits.

    `queue`: the Celery queue (None: the machine's). `priority`: 0 (first) to 9. `partition_key`: at most one action of
    a key is admitted at a time, cluster-wide, in order. `ordered`: the same, per machine. `limit`: the name of the limit
    that it is under (`store.limit`), each `limit_key` by itself; a limit that nobody has set holds it back until somebody does.
    `delay`: not before that.
    Raises TransitionError for what a row could not hold: the database must not be the one to refuse it.
    """

    queue: str | None = None
    priority: int = 5
    partition_key: str | None = None
    ordered: bool = False
    limit: str | None = None
    limit_key: str | None = None
    delay: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if type(self.priority) is not int or not 0 <= self.priority <= MAX_PRIORITY:
            raise TransitionError(f"Route: priority= is 0 to {MAX_PRIORITY}, not {self.priority!r}")
        if self.limit_key is not None and self.limit is None:
            raise TransitionError("Route: limit_key= needs a limit=")
        if type(self.limit) is str and self.limit.startswith(QUEUE_LIMIT):
            raise TransitionError(
                f"Route: limit={self.limit!r:.100} is a queue's: it holds for whatever has that queue="
            )
        if self.delay < timedelta(0):
            raise TransitionError(f"Route: delay= is a timedelta that is not negative, not {self.delay!r}")
        for name in ("queue", "partition_key", "limit", "limit_key"):
            text = getattr(self, name)
            if text is None:
                continue
            if type(text) is not str or not 0 < len(text) <= MAX_KEY or not text.isprintable():
                raise TransitionError(
                    f"Route: {name}= is 1 to {MAX_KEY} printable characters, not {text!r:.100}"
                )


class MachineStatus(StrEnum):
    """Where a machine stands. `unborn`: a signal came before it. The last three have ended."""

    UNBORN = "unborn"
    LIVE = "live"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ActionStatus(StrEnum):
    """Where an action stands; who moves it under which guard: docs/protocol.md."""

    BLOCKED = "blocked"  # waits for its lane or limit; the relay's admission moves it on
    PENDING = "pending"  # waits for `run_at`; the relay publishes it
    PUBLISHED = "published"  # a message with its ticket was sent; a worker claims it
    RUNNING = "running"  # claimed; its worker's lease guards it
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ActionId(NamedTuple):
    """`<machine>.<seq>.<idx>`: unique per emission and derived, never random. Also the effect's idempotency key."""

    machine_id: UUID
    seq: int
    idx: int

    def __str__(self) -> str:
        return f"{self.machine_id}.{self.seq}.{self.idx}"

    @classmethod
    def parse(cls, text: str) -> ActionId:
        """The id written as `text`. Raises ValueError if it is none."""
        machine, seq, idx = text.split(".")
        return cls(UUID(machine), int(seq), int(idx))


def key_text(key: Key) -> str:
    """The text form of `key`. Raises InvalidKey: wrong type, empty, too long, not printable, or a bool."""
    if isinstance(key, bool) or not isinstance(key, str | int | UUID):
        raise InvalidKey(key, "keys are str, int or UUID")
    try:
        text = str(key)
    except ValueError as error:  # an int of thousands of digits
        raise InvalidKey(key, f"1 to {MAX_KEY} characters") from error
    if not text or len(text) > MAX_KEY:
        raise InvalidKey(key, f"1 to {MAX_KEY} characters")
    if not text.isprintable():
        raise InvalidKey(key, "only printable characters")
    return text
