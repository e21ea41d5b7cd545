"""Flows: coroutines that await statements and nothing else, so that they are written once for two worlds.

An `Ask` is one statement with its parameters. A flow awaits asks; `run` and `run_async` do them on a psycopg connection
and differ by one `await`. A flow decides, it does not do: transactions belong to whoever runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg
from psycopg.rows import tuple_row

from fsm_core.postgres.failures import typed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping

    from fsm_core.postgres.statements import Plain, Statement

R = TypeVar("R")
T = TypeVar("T")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Ask(Generic[R]):
    """One round trip: `statement` with `parameters`; `reads` makes the answer of its rows."""

    statement: Statement | Plain
    parameters: Mapping[str, object]
    reads: Callable[[list[Row]], R]

    def __await__(self) -> Generator[Ask[R], R, R]:
        return (yield self)

    def on(self, connection: psycopg.Connection[Any], schema: str) -> R:
        """The answer, asked on `connection`. Raises psycopg.Error."""
        with connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(self.statement.on(schema).encode(), self.parameters)
            return self.reads(cursor.fetchall() if cursor.description else [])

    async def on_async(self, connection: psycopg.AsyncConnection[Any], schema: str) -> R:
        """The answer, asked on `connection`. Raises psycopg.Error."""
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(self.statement.on(schema).encode(), self.parameters)
            return self.reads(await cursor.fetchall() if cursor.description else [])


def run(connection: psycopg.Connection[Any], schema: str, flow: Coroutine[Ask[Any], Any, T]) -> T:
    """Run `flow` on `connection`. Raises what the flow raises; psycopg's errors reach the flow as ours."""
    resume: Callable[[], Ask[Any]] = partial(flow.send, None)
    while True:
        try:
            ask = resume()
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        try:
            resume = partial(flow.send, ask.on(connection, schema))
        except psycopg.Error as error:
            resume = partial(flow.throw, _chained(error))


async def run_async(
    connection: psycopg.AsyncConnection[Any], schema: str, flow: Coroutine[Ask[Any], Any, T]
) -> T:
    """As `run`, asynchronously."""
    resume: Callable[[], Ask[Any]] = partial(flow.send, None)
    while True:
        try:
            ask = resume()
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        try:
            resume = partial(flow.send, await ask.on_async(connection, schema))
        except psycopg.Error as error:
            resume = partial(flow.throw, _chained(error))


def _chained(error: psycopg.Error) -> Exception:
    ours = typed(error)
    ours.__cause__ = error
    return ours
