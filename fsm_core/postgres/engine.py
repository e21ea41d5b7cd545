"""The engine of relays, workers and of what looks for them: a driver with patience, plans that do not change, nothing left to an application."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from sqlalchemy import Engine, create_engine, event

from fsm_core.postgres.patience import PatientConnection
from fsm_core.postgres.pooler import settled
from fsm_core.postgres.urls import engine_url

if TYPE_CHECKING:
    from sqlalchemy.pool import ConnectionPoolEntry

KEEPALIVES = {
    "connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 15000,
}  # fmt: skip
"""A database that has vanished without a word is noticed in seconds; TCP alone would wait for a quarter of an hour."""

PATIENCE = 30.0
"""Seconds. No statement of a relay or worker lasts nearly as long; their locks are waited for 10 s at most."""

REPLAN_FIRST, REPLAN_LAST = 1.0, 600.0
"""Seconds for which a connection keeps its plans: twice as long each time, as a table grows ever more slowly."""


def own_engine(
    database_url: str, *, pool_size: int = 4, patience: float = PATIENCE, durable: bool = True
) -> Engine:
    """An engine for relay and worker processes. Not for an application: it turns custom plans off.

    patience: after how many seconds of silence in mid-statement the server is given up.
    durable: whether a commit waits for the disk. A relay's need not: what a crash of the server takes back it does again, and the
    messages that it sent are void by their tickets. A claim's must: an effect would have run that no attempt explains.
    """
    engine = create_engine(
        engine_url(database_url),
        pool_size=pool_size,
        max_overflow=2,
        pool_pre_ping=False,
        connect_args=KEEPALIVES,
    )

    @event.listens_for(engine, "do_connect")
    def _connect(
        _dialect: object, _record: object, args: list[Any], given: dict[str, Any]
    ) -> PatientConnection:
        connection = PatientConnection.connect(*args, **given)
        connection.patience = patience
        return connection

    @event.listens_for(engine, "connect")
    def _prepare(connection: psycopg.Connection[Any], record: ConnectionPoolEntry) -> None:
        direct = settled(connection, record.info)
        if direct:
            _configure(connection, durable=durable)
        connection.commit()
        if not direct:  # a setting would stay with whoever gets the server's process next
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED

    @event.listens_for(engine, "checkout")
    def _replan(connection: psycopg.Connection[Any], record: ConnectionPoolEntry, _proxy: object) -> None:
        # A plan is kept until somebody analyzes the table. One of a table that was known to be empty reads all of it, whatever comes.
        due, span = record.info.setdefault("replan", (time.monotonic() + REPLAN_FIRST, REPLAN_FIRST))
        if time.monotonic() >= due:
            connection.execute("DISCARD PLANS")
            connection.commit()
            span = min(span * 2, REPLAN_LAST)
            record.info["replan"] = (time.monotonic() + span, span)

    return engine


def _configure(connection: psycopg.Connection[Any], *, durable: bool) -> None:
    # The array statements would be planned anew at each execution: 1,200 against 600 us.
    connection.execute("SET plan_cache_mode = force_generic_plan")
    # Rows are addressed by key here, a few at a time. A plan that was made while a table was small, or never analyzed, would
    # read the whole of it for a hash join, and is kept: a claim of one row among 6,000 took 1.6 ms instead of 0.1.
    for never in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin"):
        connection.execute(sql.SQL("SET {} = off").format(sql.Identifier(never)))
    connection.execute("SET idle_in_transaction_session_timeout = '60s'")
    if not durable:
        connection.execute("SET synchronous_commit = off")
    # Limits are counted in a snapshot that is newer than their lock: never in one of the whole transaction.
    connection.execute("SET default_transaction_isolation = 'read committed'")
