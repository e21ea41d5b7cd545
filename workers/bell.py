"""The wake-up: a relay that sleeps holds an advisory lock, the bell; a writer that cannot share it notifies.

So commits are not serialised by NOTIFY (it takes a database-wide lock at commit) except when a relay sleeps, which is when
there is little to do. No lost wake-up: Postgres releases a transaction's locks after its rows are visible, and the relay
looks once more after it has the bell. Proof: docs/protocol.md, section 8.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from fsm_core.postgres.failures import typed
from fsm_core.postgres.patience import PatientConnection
from fsm_core.postgres.statements import Statement, channel, relay
from fsm_core.postgres.urls import engine_url

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

KEEPALIVES: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15000,
}


class Bell:
    """A direct connection that listens. Where listening does not work (PgBouncer in transaction mode) it never sleeps on it.

    patience: seconds; a server that is silent for longer in mid-statement is given up. Raises StoreError, if the database is not there.
    """

    def __init__(self, database_url: str, schema: str, *, patience: float) -> None:
        self._schema = schema
        url = engine_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        try:
            self._connection = PatientConnection.connect(
                url, autocommit=True, connect_timeout=5, **KEEPALIVES
            )
            self._connection.patience = patience
            self._connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel(schema))))
            self.listens = self._echo()
        except psycopg.Error as error:
            raise typed(error) from error
        if not self.listens:
            log.warning(
                "LISTEN does not reach this connection (PgBouncer in transaction mode?); polling instead"
            )

    def close(self) -> None:
        """Close the connection, and with it drop the bell."""
        with contextlib.suppress(psycopg.Error):
            self._connection.close()

    def sleep(self, has_work: Callable[[], bool], most: Callable[[], float]) -> bool:
        """Sleep until a writer rings, at most `most()` seconds. Returns whether the sleep was safe.

        False: the bell was not to be had, because writers are in flight (poll again soon), or listening does not work.
        has_work: asked once more under the bell; True ends the sleep before it begins. Raises StoreError, and what has_work raises:
        then the bell is still held, until it is closed.
        """
        try:
            if not self.listens:
                return False
            if self._ask(relay.TAKE_BELL):
                if not has_work():
                    self._wait(most())
                self._ask(relay.DROP_BELL)
                return True
            if self._ask(relay.PEER_ON_DUTY):
                self._wait(most())
                return True
        except psycopg.Error as error:
            raise typed(error) from error
        return False

    def _wait(self, seconds: float) -> None:
        for _ in self._connection.notifies(timeout=max(seconds, 0), stop_after=1):
            pass

    def _ask(self, statement: Statement) -> bool:
        row = self._connection.execute(statement.on(self._schema).encode()).fetchone()
        return bool(row and row[0])

    def _echo(self) -> bool:
        """Whether this connection hears, and has its server process for itself.

        An echo alone proves nothing: a pooler in transaction mode passes on what comes while the process is lent to us. A pooler
        tells a client a process id of its own making, so the server's own answer gives it away.
        """
        word = uuid.uuid4().hex
        told = self._connection.execute(
            "SELECT pg_backend_pid(), pg_notify(%s, %s)", (channel(self._schema), word)
        ).fetchone()
        if told is None or told[0] != self._connection.info.backend_pid:
            return False
        return any(note.payload == word for note in self._connection.notifies(timeout=1, stop_after=1))
