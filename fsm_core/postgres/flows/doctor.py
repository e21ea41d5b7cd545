"""`doctor` and `stats`: the facts of the server, of the schema and of what is under way. Each flow may fail by itself.

Ages are by the database's clock; a negative one lies ahead. What is counted ends at `MOST`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from fsm_core.draft import MAX_INBOX
from fsm_core.postgres import params
from fsm_core.postgres.ask import Ask, Row
from fsm_core.postgres.flows.advance import one
from fsm_core.postgres.statements import doctor as sql
from fsm_core.postgres.statements import upcast
from fsm_core.types import MachineStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

MOST = 10_001
"""Where counting ends: what is told then is "more than 10,000"."""

NEARLY_FULL = MAX_INBOX * 8 // 10

HUNDRED = 100.0


class Server(NamedTuple):
    """How the server is set. sees_all: whether this role is shown what other roles' sessions do."""

    version: int
    version_name: str
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    autovacuum: bool
    connections: int
    most_connections: int
    sees_all: bool


class Session(NamedTuple):
    """A transaction that has been open for long. idle: for how long the session is in its present state."""

    pid: int
    name: str
    state: str
    open_for: timedelta
    in_state: timedelta


class Holder(NamedTuple):
    """Who keeps dead rows: a `session`, a `prepared` transaction or a replication `slot`. since: None, if nobody can say."""

    kind: str
    name: str
    by: str
    transactions: int
    since: timedelta | None


class Table(NamedTuple):
    """What the statistics say of a table. vacuumed: how long ago; None: never."""

    name: str
    live: int
    dead: int
    vacuumed: timedelta | None
    autovacuum: bool


class Process(NamedTuple):
    """A process that nobody has buried. queues: queue -> slots. late: for how long its lease has run out."""

    kind: str
    where: str
    queues: Mapping[str, int]
    late: timedelta

    @property
    def alive(self) -> bool:
        """Whether its lease holds."""
        return self.late <= timedelta(0)


class Depth(NamedTuple):
    """A queue: rows that are due, published, running. due_for, published_for: the age of the oldest; None: there is none."""

    queue: str
    due: int
    due_for: timedelta | None
    published: int
    published_for: timedelta | None
    running: int
    limited: bool


class Lane(NamedTuple):
    """A lane whose head has not moved for long while others wait behind it."""

    name: str
    machine: str
    status: str
    attempt: int
    since: timedelta
    behind: int


class Lost(NamedTuple):
    """Actions that run under a worker that is dead, or (`where` and `buried` None) unknown."""

    where: str | None
    actions: int
    buried: timedelta | None


class Failed(NamedTuple):
    """How many actions have failed, how many of them in the last hour, and how long ago the last one did."""

    actions: int
    lately: int
    last: timedelta | None


class Count(NamedTuple):
    """A number; `exact`, or estimated from a sample."""

    number: int
    exact: bool


class Stats(NamedTuple):
    """What `stats` tells. machines: name -> status -> how many. attempts: outcome -> how many in the last hour."""

    machines: Mapping[str, Mapping[str, Count]]
    depths: tuple[Depth, ...]
    failed: Failed
    attempts: Mapping[str, Count]
    processes: tuple[Process, ...]


async def bounded(wait: timedelta) -> None:
    """Let no statement of this transaction take longer."""
    await Ask(upcast.LOOK_TIMEOUT, {"wait": f"{int(wait.total_seconds() * 1000)}ms"}, len)


async def clock() -> datetime:
    """The time at the server."""
    now: datetime = await Ask(sql.CLOCK, {}, lambda rows: rows[0][0])
    return params.utc(now)


async def server() -> Server:
    """How it is set."""
    found: Server = await Ask(sql.SERVER, {}, lambda rows: Server(*rows[0]))
    return found


async def sessions(patience: timedelta) -> tuple[Session, ...]:
    """Whose transactions have been open for longer than `patience`, the oldest first."""
    found: tuple[Session, ...] = await Ask(sql.SESSIONS, {"patience": patience}, _all(Session))
    return found


async def holders() -> tuple[Holder, ...]:
    """Who keeps dead rows from being cleaned up, the oldest first."""
    found: tuple[Holder, ...] = await Ask(sql.HOLDERS, {}, _all(Holder))
    return found


async def tables(schema: str) -> tuple[Table, ...]:
    """The tables of `schema`; none: it is not there."""
    found: tuple[Table, ...] = await Ask(sql.TABLES, {"schema": schema}, _all(Table))
    return found


async def revision() -> str | None:
    """Where the schema is; None: its version table is empty. Raises SchemaError: there is none."""
    row = await Ask(sql.REVISION, {}, one)
    return None if row is None else str(row[0])


async def processes() -> tuple[Process, ...]:
    """Those that nobody has buried."""
    found: tuple[Process, ...] = await Ask(sql.WORKERS, {}, _all(Process))
    return found


async def depths() -> tuple[Depth, ...]:
    """The queues that have rows or consumers."""
    found: tuple[Depth, ...] = await Ask(sql.QUEUES, {"most": MOST}, _all(Depth))
    return found


async def lanes(patience: timedelta) -> tuple[Lane, ...]:
    """Those whose head has not moved for longer than `patience`, the oldest first."""
    found: tuple[Lane, ...] = await Ask(sql.LANES, {"patience": patience}, _all(Lane))
    return found


async def unset_limits() -> tuple[str, ...]:
    """Limits that actions wait for and nobody has set."""
    found: tuple[str, ...] = await Ask(sql.UNSET, {}, lambda rows: tuple(row[0] for row in rows))
    return found


async def lost() -> tuple[Lost, ...]:
    """What runs under workers that are gone."""
    found: tuple[Lost, ...] = await Ask(sql.LOST, {}, _all(Lost))
    return found


async def failed() -> Failed:
    """What has failed."""
    found: Failed = await Ask(sql.FAILED, {"most": MOST}, lambda rows: Failed(*rows[0]))
    return found


async def full_inboxes() -> tuple[tuple[str, int], ...]:
    """Machines whose inbox is nearly full, with how many events it holds."""
    found: tuple[tuple[str, int], ...] = await Ask(
        sql.INBOXES, {"full": NEARLY_FULL}, lambda rows: tuple((row[0], row[1]) for row in rows)
    )
    return found


async def unread() -> tuple[tuple[str, int], ...]:
    """Names and versions of live machines that no living worker reads; a sample."""
    found: tuple[tuple[str, int], ...] = await Ask(
        upcast.UNREAD, {"known": "{}"}, lambda rows: tuple((row[0], row[1]) for row in rows)
    )
    return found


async def stats() -> Stats:
    """How much there is of everything."""
    machines: dict[str, dict[str, Count]] = {}
    for name, status, count, percent in await Ask(sql.MACHINES, {}, list[Row]):
        none = _count(0, percent)
        known = machines.setdefault(name, dict.fromkeys(map(str, MachineStatus), none))
        if status is not None:  # the sample has one of them
            known[status] = _count(count, percent)
    attempts = {row[0]: _count(row[1], row[2]) for row in await Ask(sql.ATTEMPTS, {}, list[Row])}
    return Stats(machines, await depths(), await failed(), attempts, await processes())


def _count(number: int, percent: float) -> Count:
    return Count(round(number * HUNDRED / percent), percent >= HUNDRED)


def _all(kind: Callable[..., T]) -> Callable[[list[Row]], tuple[T, ...]]:
    return lambda rows: tuple(kind(*row) for row in rows)
