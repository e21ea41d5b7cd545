"""A pooler in between (PgBouncer): in transaction mode each transaction may meet another process of the server.

What a session keeps is not ours there. The name of a prepared statement may be another client's, with another text, and a setting
stays with whoever gets the process next. A pooler gives its clients process ids of its own making: the server's answer tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.rows import tuple_row

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    import psycopg

BACKEND = "SELECT pg_backend_pid()"

DEFAULT_THRESHOLD = 5
"""psycopg's own. Whoever set another one knows what is in between."""

_DIRECT = "fsm.direct"


def settled(connection: psycopg.Connection[Any], info: MutableMapping[Any, Any]) -> bool:
    """Whether `connection` has a process of the server for itself; asked once. If not, it prepares no statements.

    info: what SQLAlchemy keeps about the connection for as long as it is open. Raises psycopg.Error.
    """
    if _DIRECT not in info:
        with connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(BACKEND, prepare=False)
            info[_DIRECT] = _kept(connection, cursor.fetchone())
    return bool(info[_DIRECT])


async def settled_async(connection: psycopg.AsyncConnection[Any], info: MutableMapping[Any, Any]) -> bool:
    """As `settled`."""
    if _DIRECT not in info:
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(BACKEND, prepare=False)
            info[_DIRECT] = _kept(connection, await cursor.fetchone())
    return bool(info[_DIRECT])


def _kept(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], answer: tuple[Any, ...] | None
) -> bool:
    direct = answer is not None and answer[0] == connection.info.backend_pid
    if not direct and connection.prepare_threshold == DEFAULT_THRESHOLD:
        connection.prepare_threshold = None
    return direct
