"""The store on PostgreSQL: tables, statements, transactions."""

from fsm_core.postgres.aio.store import AsyncPostgresStore
from fsm_core.postgres.sealing import Cipher
from fsm_core.postgres.sync.store import PostgresStore

__all__ = ["AsyncPostgresStore", "Cipher", "PostgresStore"]
