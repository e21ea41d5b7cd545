"""The two ports that delivery stands on, and the values that cross them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from fsm_core.births import Address
    from fsm_core.types import ActionId, ActionStatus
    from fsm_core.unit import Held, Seen, Unit


class Claimed(NamedTuple):
    """An action that this worker was given. `token` is its claim; its ticket, where the `outcome` is known already."""

    id: ActionId
    token: UUID
    machine: str
    key: str
    version: int
    action: str
    payload: str
    tracked: bool
    queue: str
    attempt: int
    budget_from: int
    lost: int
    in_doubt: bool
    outcome: str | None
    published_at: datetime
    started_at: datetime | None
    created_at: datetime

    @property
    def used(self) -> int:
        """How many attempts of its budget it has used, this one included."""
        return self.attempt - self.budget_from


class Move(NamedTuple):
    """A change of an action's status that touches no machine, guarded by the status `want` and the token `mine`.

    delay: from now, by the database's clock. step: added to the attempts. attempt_outcome: what to record of the attempt.
    """

    id: ActionId
    want: ActionStatus
    mine: UUID
    to: ActionStatus
    delay: timedelta | None = None
    step: int = 0
    attempt_outcome: str | None = None
    outcome: str | None = None
    error: str | None = None
    note: str | None = None
    in_doubt: bool | None = None
    """Whether it is unknown if the effect happened; None: as unknown as before."""


class Published(NamedTuple):
    """A row that was marked as published, for its message."""

    id: ActionId
    machine: str
    action: str
    lost: int


class Overdue(NamedTuple):
    """A row that was published long ago and not claimed."""

    id: ActionId
    ticket: UUID
    queue: str
    published_at: datetime
    publishes: int
    machine: str
    action: str


class Queue(NamedTuple):
    """A queue that live workers serve: their slots in sum, and the newest `published_at` that one of them claimed.

    limited: whether a limit holds for the whole queue. at_once: how many of its actions a worker claims in one go.
    """

    slots: int
    claimed_up_to: datetime | None
    limited: bool = False
    at_once: int = 1


class Cursor(NamedTuple):
    """How far admission has come: behind this lane, and behind this key of this limit. As it is made, the beginning."""

    lane: str = ""
    limit: str = ""
    key: str = ""


class Admitted(NamedTuple):
    """What one pass of admission did. rows: how many it admitted. wake: when time alone lets more in (a token, a retry that is due); None: it does not."""

    rows: int
    cursor: Cursor
    wake: timedelta | None = None


class Share(NamedTuple):
    """What was published under a queue's limit. full: it lets out no more until something ends, or another relay is at it.

    wake: when the next token comes; None: tokens are not what is missing.
    """

    rows: list[Published]
    full: bool = False
    wake: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to the broker: ids and their ticket, never a payload. `label` is what a dashboard shows."""

    ticket: UUID
    ids: tuple[ActionId, ...]
    label: str


class Deciding(Protocol):
    """Decides one machine's unit: on the row as it was read, with what is held for it, and the addresses known to be in use.

    offer: whether held events may be taken up.
    """

    def __call__(self, seen: Seen, held: Sequence[Held], taken: frozenset[Address], *, offer: bool) -> Unit:
        """The unit. Raises nothing but bugs of the engine's own."""


class WorkerStore(Protocol):
    """What a worker asks of the store."""

    def claim(self, worker: UUID, ids: Sequence[ActionId], ticket: UUID, claim: UUID) -> list[Claimed]:
        """Start the ids that are published under `ticket`: count the attempt, set the fresh token `claim`."""

    def move(self, moves: Sequence[Move]) -> set[ActionId]:
        """Make the moves whose guard holds; returns their ids. Never waits for a lock."""

    def read(self, machines: Sequence[UUID]) -> dict[UUID, Seen]:
        """The machines' rows."""

    def write(self, units: Sequence[Unit]) -> set[int]:
        """Write units, each all or nothing; returns the positions of those written. Never waits for a lock."""

    def write_alone(self, machine: UUID, decide: Deciding) -> bool:
        """Decide and write under the machine's lock. Returns False if it stayed locked or a guard missed.

        Raises ConstraintViolated, if a projection broke one; then nothing was written.
        """

    def locate(self, addresses: Sequence[Address]) -> dict[Address, UUID]:
        """The ids of the machines that are there."""

    def cancel_children(self, action: ActionId, note: str) -> bool:
        """Cancel the machine's children that still live, each in a transaction of its own. Returns whether none is left.

        action: what says so; children that were born after it are not meant.
        """

    def mine(self, ids: Sequence[ActionId], tokens: Sequence[UUID]) -> dict[ActionId, ActionStatus]:
        """Of those rows that still carry the token: their status."""

    def late(self, action: ActionId, token: UUID, result: str) -> None:
        """Record a result that came too late with its attempt."""


class RelayStore(Protocol):
    """What a relay asks of the store."""

    def queues(self) -> Mapping[str, Queue]:
        """The queues that live workers serve."""

    def window(self, queue: str) -> int:
        """How many rows of the queue are published and not claimed."""

    def publish(self, queue: str, limit: int, ticket: UUID) -> list[Published]:
        """Mark up to `limit` due rows as published under `ticket`, the most urgent first."""

    def unpublish(self, ids: Sequence[ActionId], ticket: UUID, note: str) -> None:
        """Take the mark back; no attempt was made."""

    def publish_limited(self, queue: str, limit: int, ticket: UUID) -> Share:
        """As `publish`, of a queue that is under a limit; no more than that allows."""

    def admit(self, cursor: Cursor) -> Admitted:
        """Admit the heads of free lanes, and what limits leave room for, after `cursor`. One relay at a time: else nothing."""

    def mark_dead(self, lease: timedelta) -> int:
        """Take the leases away that ran out; returns how many."""

    def requeue_dead(self) -> int:
        """Put back what dead workers were running; returns how many."""

    def overdue(self, queues: Sequence[str], patience: timedelta) -> list[Overdue]:
        """Rows published and not claimed for longer than patience x 2^publishes."""

    def republish(self, rows: Sequence[Overdue]) -> set[ActionId]:
        """Count one more publishing under the same ticket; returns those whose guard held."""

    def forget_workers(self) -> None:
        """Delete the rows of workers long gone."""


class Broker(Protocol):
    """What delivery asks of a broker. Every method raises BrokerUnavailable; none waits for long."""

    def publish(self, queue: str, messages: Sequence[Message]) -> None:
        """Send all, or raise; what was sent before it raised may arrive."""

    def depth(self, queue: str) -> int:
        """How many messages wait in the queue."""

    def ping(self) -> None:
        """Raise, if it does not answer."""
