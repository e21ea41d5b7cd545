"""The store on PostgreSQL: tables, statements, transactions."""

from fsm_core.postgres.aio import AsyncPostgresStore
from fsm_core.postgres.store import PostgresStore

__all__ = ["AsyncPostgresStore", "PostgresStore"]
