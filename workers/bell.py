"""The wake-up: a relay that sleeps holds an advisory lock, the bell; a writer that cannot share it notifies.

So commits are not serialised by NOTIFY (it takes a database-wide lock at commit) except when a relay sleeps, which is when
there is little to do. No lost wake-up: Postgres releases a transaction's locks after its rows are visible, and the relay
looks once more after it has the bell. Proof: docs/protocol.md, section 8.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from fsm_core.postgres.engine import KEEPALIVES
from fsm_core.postgres.failures import typed
from fsm_core.postgres.patience import PatientConnection
from fsm_core.postgres.pooler import settled
from fsm_core.postgres.statements import Statement, channel, relay
from fsm_core.postgres.urls import engine_url

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class Bell:
    """A direct connection that listens. Where listening does not work (PgBouncer in transaction mode) it never sleeps on it.

    patience: seconds; a server that is silent for longer in mid-statement is given up. Raises StoreError, if the database is not there.
    """

    def __init__(self, database_url: str, schema: str, *, patience: float) -> None:
        self._schema = schema
        url = engine_url(database_url)
        # As an engine connects: libpq reads other URLs than SQLAlchemy writes (a blank in a password).
        _, address = url.get_dialect()().create_connect_args(url)
        options = {**address, **KEEPALIVES}
        try:
            self._connection = PatientConnection.connect(autocommit=True, **options)
        except psycopg.Error as error:
            raise typed(error) from error
        self._connection.patience = patience
        try:
            self.listens = settled(self._connection, {}) and self._echo()
        except psycopg.Error as error:
            self.close()
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
        has_work: does what there is; asked once more under the bell, and again when it rings. True ends the sleep before it begins. Raises
        StoreError, and what has_work raises: then the bell is still held, until it is closed.
        """
        try:
            if not self.listens:
                return False
            if self._ask(relay.TAKE_BELL):
                if not has_work() and self._wait(most()):
                    has_work()  # at once: the bell can be dropped afterwards
                self._ask(relay.DROP_BELL)
                return True
            if self._ask(relay.PEER_ON_DUTY):
                self._wait(most())
                return True
        except psycopg.Error as error:
            raise typed(error) from error
        return False

    def _wait(self, seconds: float) -> bool:
        """Whether it rang. All that has come is taken: each of what is left would end a later sleep."""
        return bool(list(self._connection.notifies(timeout=max(seconds, 0), stop_after=1)))

    def _ask(self, statement: Statement) -> bool:
        row = self._connection.execute(statement.on(self._schema).encode()).fetchone()
        return bool(row and row[0])

    def _echo(self) -> bool:
        """Listen, and hear whether a word comes back. Through a pooler it might: it passes on what comes while the process is lent to us."""
        name, word = channel(self._schema), uuid.uuid4().hex
        self._connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(name)))
        self._connection.execute("SELECT pg_notify(%s, %s)", (name, word))
        return any(note.payload == word for note in self._connection.notifies(timeout=1))
