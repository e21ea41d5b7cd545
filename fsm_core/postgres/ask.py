"""Flows: coroutines that await statements and nothing else, so that they are written once for two worlds.

An `Ask` is one statement with its parameters. A flow awaits asks; `run` and `run_async` do them on a psycopg connection
and differ by one `await`. A flow decides, it does not do: transactions belong to whoever runs it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg
from psycopg.rows import tuple_row

from fsm_core.postgres.failures import typed
from fsm_core.postgres.sealing import opened, sealed
from fsm_core.postgres.statements import Plain

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping

    from fsm_core.postgres.sealing import Cipher
    from fsm_core.postgres.statements import Statement

R = TypeVar("R")
T = TypeVar("T")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Ask(Generic[R]):
    """One round trip: `statement` with `parameters`; `reads` makes the answer of its rows.

    cipher: set by whoever runs the flow, where payloads are encrypted.
    """

    statement: Statement | Plain
    parameters: Mapping[str, object]
    reads: Callable[[list[Row]], R]
    cipher: Cipher | None = None

    def __await__(self) -> Generator[Ask[R], R, R]:
        return (yield self)

    def on(self, connection: psycopg.Connection[Any], schema: str) -> R:
        """The answer, asked on `connection`. Raises psycopg.Error."""
        with connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(self.statement.on(schema).encode(), self._bound())
            return self._answer(cursor, cursor.fetchall() if _has_rows(cursor) else [])

    async def on_async(self, connection: psycopg.AsyncConnection[Any], schema: str) -> R:
        """The answer, asked on `connection`. Raises psycopg.Error."""
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(self.statement.on(schema).encode(), self._bound())
            return self._answer(cursor, await cursor.fetchall() if _has_rows(cursor) else [])

    def under(self, cipher: Cipher) -> Ask[R]:
        """The same where payloads are encrypted. What a projection asks is the application's own, and is left as it is."""
        return self if isinstance(self.statement, Plain) else replace(self, cipher=cipher)

    def _bound(self) -> Mapping[str, object]:
        given = self.parameters if self.cipher is None else sealed(self.cipher, self.parameters)
        return self.statement.bound(given)

    def _answer(self, cursor: psycopg.Cursor[Row] | psycopg.AsyncCursor[Row], rows: list[Row]) -> R:
        if self.cipher is not None and rows:
            rows = opened(self.cipher, rows, _columns(cursor), self.parameters)
        return self.reads(rows)


def run(
    connection: psycopg.Connection[Any],
    schema: str,
    flow: Coroutine[Ask[Any], Any, T],
    cipher: Cipher | None = None,
) -> T:
    """Run `flow` on `connection`, its payloads encrypted by `cipher` if there is one.

    Raises what the flow raises; psycopg's errors reach the flow as ours.
    """
    resume: Callable[[], Ask[Any]] = partial(flow.send, None)
    while True:
        try:
            ask = resume()
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        ask = ask if cipher is None else ask.under(cipher)
        try:
            resume = partial(flow.send, ask.on(connection, schema))
        except Exception as error:  # noqa: BLE001 - the flow's to judge: it may have something to take back
            resume = partial(flow.throw, _ours(error))


async def run_async(
    connection: psycopg.AsyncConnection[Any],
    schema: str,
    flow: Coroutine[Ask[Any], Any, T],
    cipher: Cipher | None = None,
) -> T:
    """As `run`, asynchronously."""
    resume: Callable[[], Ask[Any]] = partial(flow.send, None)
    while True:
        try:
            ask = resume()
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        ask = ask if cipher is None else ask.under(cipher)
        try:
            resume = partial(flow.send, await ask.on_async(connection, schema))
        except Exception as error:  # noqa: BLE001 - the flow's to judge: it may have something to take back
            resume = partial(flow.throw, _ours(error))


def _has_rows(cursor: psycopg.Cursor[Row] | psycopg.AsyncCursor[Row]) -> bool:
    """Whether there is an answer to fetch. Not by `description`, which describes each column of it first."""
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


def _columns(cursor: psycopg.Cursor[Row] | psycopg.AsyncCursor[Row]) -> list[bytes]:
    """The names of the answer's columns; `description` takes ten times as long."""
    answer = cursor.pgresult
    return [] if answer is None else [answer.fname(n) or b"" for n in range(answer.nfields)]


def _ours(error: Exception) -> Exception:
    if not isinstance(error, psycopg.Error):
        return error
    ours = typed(error)
    ours.__cause__ = error
    return ours
