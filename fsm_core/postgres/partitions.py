"""Partitions: events, actions and attempts cut by the birth of their machine, so that old ones go by DROP and not row by row.

An option of a fresh installation, right after `fsm migrate` and before anything is granted: the tables are made anew. Lookups by key
touch one partition; what looks for work (publish, admission) looks into the small partial indexes of each. `actions_lane` is unique
within a partition only: across them it is admission alone that keeps a lane single, as docs/protocol.md says.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple, TypeVar
from uuid import UUID

from psycopg import sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from fsm_core.errors import Busy, ConfigurationError, Deadlock, SchemaError
from fsm_core.postgres import tables
from fsm_core.postgres.own import Own
from fsm_core.postgres.statements import partitions as text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import psycopg
    from sqlalchemy import Engine

T = TypeVar("T")

TABLES = ("actions", "events", "attempts")

DEFAULT = "_default"
"""The partition that catches what no range is there for."""

LOCK_WAIT, TRIES = "500ms", 20
"""How long to wait for the lock on whole tables, and how often: whoever comes later waits behind us, and far below deadlock_timeout (1 s)
it is we who yield.
"""

MOST_STRAGGLERS = 1000
"""A range with more machines that are not over is left alone: what they have is moved under that lock."""

_BOUND = re.compile(r"FROM \('([0-9a-f-]{36})'\) TO \('([0-9a-f-]{36})'\)")
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


class Every(StrEnum):
    """How long a range is."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    def begin(self, at: datetime) -> datetime:
        """When the range of `at` begins, in UTC; a week on Monday."""
        day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if self is Every.MONTH:
            return day.replace(day=1)
        return day - timedelta(days=day.weekday()) if self is Every.WEEK else day

    def end(self, begin: datetime) -> datetime:
        """When the range that begins at `begin` ends."""
        return self.begin(
            begin
            + {Every.DAY: timedelta(days=1), Every.WEEK: timedelta(days=7), Every.MONTH: timedelta(days=32)}[
                self
            ]
        )


class Range(NamedTuple):
    """One partition of each table: machines born from `first` to before `after` (None: the rest), and what it takes on disk."""

    name: str
    first: datetime | None
    after: datetime | None
    size: int


class Dropped(NamedTuple):
    """What `drop` did. ranges: their names. machines: that were forgotten. moved: machines that were not over. left: ranges that have too many."""

    ranges: tuple[str, ...] = ()
    machines: int = 0
    moved: int = 0
    left: tuple[str, ...] = ()


class Partitions:
    """The partitions in `schema`. Every method raises StoreError if the database does; then nothing was changed."""

    def __init__(self, engine: Engine, schema: str = "fsm") -> None:
        self._own = Own(engine)
        self._schema = schema

    @property
    def every(self) -> Every | None:
        """How long the ranges are; None: the tables are not partitioned."""
        return self._alone("looking for partitions", lambda connection: self._state(connection)[0])

    def enable(self, every: Every, *, ahead: int = 2) -> None:
        """Make the tables partitioned, with the present range and `ahead` more. They must be empty, and are made anew, without grants.

        Raises ConfigurationError: they are partitioned already, or have rows: an installation that is in use cannot be converted.
        """
        self._alone("partitioning", partial(self._enable, every, ahead))

    def ranges(self) -> list[Range]:
        """All partitions, the oldest first, and the default one; none, if the tables are not partitioned."""
        return self._alone("looking for partitions", self._ranges)

    def extend(self, ahead: int = 2) -> list[str]:
        """Make the partition of the present range and of the `ahead` next ones, where they are missing; returns the names of the new.

        What came before is moved from the default partition. Raises ConfigurationError (the tables are not partitioned), Busy.
        """

        def act(connection: psycopg.Connection[Any]) -> list[str]:
            every, _, now = self._state(connection)
            return self._extend(connection, _partitioned(every), now, ahead)

        return self._alone("making partitions", act)

    def drop(self, age: timedelta) -> Dropped:
        """Drop the ranges that ended longer ago than `age` and whose machines have, too; forget those machines whole.

        A few machines that are not over (they live, ended later, have open actions or such children) keep all they have, in the
        default partition. Each range is a transaction of its own. Raises ConfigurationError (not partitioned), Busy.
        """

        def due(connection: psycopg.Connection[Any]) -> list[Range]:
            every, _, now = self._state(connection)
            _partitioned(every)
            return [
                each for each in self._ranges(connection) if each.after is not None and each.after < now - age
            ]

        done = Dropped()
        for each in self._alone("dropping partitions", due):
            try:
                # A machine of that time may be in a transaction that is still open: who is over can be told when it has ended.
                self._alone(
                    f"waiting for partition {each.name}", partial(self._lock, text.NO_WRITERS, each.name)
                )
                one = self._alone(f"dropping partition {each.name}", partial(self._drop, each, age))
            except _ReopenedError:
                one = Dropped(left=(each.name,))
            done = Dropped(
                done.ranges + one.ranges,
                done.machines + one.machines,
                done.moved + one.moved,
                done.left + one.left,
            )
        return done

    def _enable(self, every: Every, ahead: int, connection: psycopg.Connection[Any]) -> None:
        found, rows, now = self._state(connection)
        if found is not None:
            raise ConfigurationError(f"the tables are partitioned already, by {found}")
        if rows:
            raise ConfigurationError(
                "the tables have rows: only those of a fresh installation can be partitioned"
            )
        for table in TABLES:
            self._run(connection, text.DROP, part=self._name(table))
        for statement in _created(self._schema):
            connection.execute(statement.encode())
        for table in TABLES:
            note = sql.Literal(f"fsm partitions: {every}")
            self._run(connection, text.REMEMBER, table=self._name(table), comment=note)
            self._run(connection, text.DEFAULT, part=self._name(table, DEFAULT), table=self._name(table))
            self._finish(connection, table, DEFAULT)
        self._extend(connection, every, now, ahead)

    def _drop(self, old: Range, age: timedelta, connection: psycopg.Connection[Any]) -> Dropped:
        assert old.first is not None and old.after is not None  # noqa: PT018, S101 - the default range is never due
        bounds: dict[str, object] = {"first": bound(old.first), "after": bound(old.after), "age": age}
        rows = connection.execute(
            text.STRAGGLERS.on(self._schema).encode(), {**bounds, "limit": MOST_STRAGGLERS + 1}
        ).fetchall()
        if len(rows) > MOST_STRAGGLERS:
            return Dropped(left=(old.name,))
        kept = [row[0] for row in rows]
        # The long part first: nobody waits for the rows of machines that are over.
        forgotten = connection.execute(
            text.FORGET.on(self._schema).encode(), {**bounds, "ids": kept}
        ).fetchone()
        self._lock(text.LOCK_ALL, "", connection)
        opened = self._run(
            connection, text.OPENED, {"ids": kept}, part=self._name("actions", old.name)
        ).fetchone()
        if opened is None or opened[0]:
            raise _ReopenedError
        for table in TABLES:
            part = self._name(table, old.name)
            self._run(connection, text.DETACH, table=self._name(table), part=part)
            self._run(connection, text.MOVE, {"ids": kept}, table=self._name(table), part=part)
            self._run(connection, text.DROP, part=part)
        return Dropped((old.name,), 0 if forgotten is None else int(forgotten[0]), len(kept))

    def _extend(
        self, connection: psycopg.Connection[Any], every: Every, now: datetime, ahead: int
    ) -> list[str]:
        there = {each.name for each in self._ranges(connection)}
        first, made = every.begin(now), []
        for _ in range(ahead + 1):
            after = every.end(first)
            if (name := f"_{first:%Y%m%d}") not in there:
                self._make(connection, name, first, after)
                made.append(name)
            first = after
        return made

    def _make(self, connection: psycopg.Connection[Any], name: str, first: datetime, after: datetime) -> None:
        lower, upper = sql.Literal(str(bound(first))), sql.Literal(str(bound(after)))
        self._lock(text.LOCK_ALL, DEFAULT, connection)
        for table in TABLES:
            part, parent = self._name(table, name), self._name(table)
            self._run(connection, text.LIKE, part=part, table=parent)
            caught = self._name(table, DEFAULT)
            self._run(connection, text.CATCH, default=caught, part=part, first=lower, after=upper)
            self._run(connection, text.ATTACH, table=parent, part=part, first=lower, after=upper)
            self._finish(connection, table, name)

    def _finish(self, connection: psycopg.Connection[Any], table: str, name: str) -> None:
        """What a parent cannot have: options of storage, and a unique index without the key of the partitions."""
        part = self._name(table, name)
        options = (
            tables.build(self._schema).tables[f"{self._schema}.{table}"].dialect_options["postgresql"]["with"]
        )
        if options:
            named = (
                sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in options.items()
            )
            self._run(connection, text.OPTIONS, part=part, options=sql.SQL(", ").join(named))
        if table == "actions":
            self._run(connection, text.ONE_LANE, part=part, name=sql.Identifier(f"actions_lane{name}"))

    def _state(self, connection: psycopg.Connection[Any]) -> tuple[Every | None, bool, datetime]:
        row = connection.execute(text.STATE.on(self._schema).encode(), {"schema": self._schema}).fetchone()
        if row is None:
            raise SchemaError(f"schema {self._schema} has no tables; run `fsm migrate`")
        return Every(row[1].rpartition(" ")[2]) if row[0] else None, row[2], row[3]

    def _ranges(self, connection: psycopg.Connection[Any]) -> list[Range]:
        rows = connection.execute(text.LIST.on(self._schema).encode(), {"schema": self._schema}).fetchall()
        found = []
        for name, written, size in rows:
            match = _BOUND.search(written)
            first, after = (born(UUID(each)) for each in match.groups()) if match else (None, None)
            found.append(Range(name, first, after, int(size)))
        return found

    def _name(self, table: str, part: str = "") -> sql.Identifier:
        return sql.Identifier(self._schema, table + part)

    @staticmethod
    def _run(
        connection: psycopg.Connection[Any],
        template: LiteralString,
        parameters: Mapping[str, object] | None = None,
        **names: sql.Composable,
    ) -> psycopg.Cursor[Any]:
        return connection.execute(sql.SQL(template).format(**names), parameters)

    def _lock(self, mode: LiteralString, part: str, connection: psycopg.Connection[Any]) -> None:
        actions, events, attempts = (self._name(table, part) for table in TABLES)
        self._run(connection, mode, actions=actions, events=events, attempts=attempts)

    def _alone(self, doing: str, act: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Act in a transaction in which nobody else changes partitions, and which waits for no lock for long; again, if it had to."""
        stop, wait = stop_after_attempt(TRIES), wait_random_exponential(multiplier=0.05, max=2)
        for attempt in Retrying(
            retry=retry_if_exception_type((Busy, Deadlock)), stop=stop, wait=wait, reraise=True
        ):
            with attempt, self._own.connected(doing) as connection, self._own.transaction(connection):
                connection.execute(text.LOCK_WAIT, {"wait": LOCK_WAIT})
                connection.execute(text.ALONE, {"schema": self._schema})
                return act(connection)
        raise AssertionError  # pragma: no cover - Retrying returns or raises


class _ReopenedError(Exception):
    """An action of a machine that was over is open again: its range is not over yet."""


def bound(at: datetime) -> UUID:
    """The least UUID of version 7 that is born at `at`."""
    return UUID(int=int(at.timestamp() * 1000) << 80)


def born(machine: UUID) -> datetime:
    """When a machine was born, as its id tells."""
    return datetime.fromtimestamp((machine.int >> 80) / 1000, UTC)


def _partitioned(every: Every | None) -> Every:
    if every is None:
        raise ConfigurationError(
            "the tables are not partitioned; a fresh installation can be: `fsm partitions enable`"
        )
    return every


def _created(schema: str) -> Iterator[str]:
    """The statements that make the tables as partitioned ones, with their indexes."""
    metadata = tables.build(schema)
    for name in TABLES:
        table = metadata.tables[f"{schema}.{name}"]
        options = table.dialect_options["postgresql"]
        options["partition_by"], options["with"] = "RANGE (machine_id)", None
        yield str(CreateTable(table).compile(dialect=_DIALECT))
        for index in sorted(table.indexes, key=lambda each: str(each.name)):
            if index.name != "actions_lane":
                yield str(CreateIndex(index).compile(dialect=_DIALECT))
