"""The store on PostgreSQL: tables, statements, transactions."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsm_core.postgres.aio.store import AsyncPostgresStore
    from fsm_core.postgres.sealing import Cipher
    from fsm_core.postgres.sync.store import PostgresStore

__all__ = ["AsyncPostgresStore", "Cipher", "PostgresStore"]

_WHERE = {"AsyncPostgresStore": "aio.store", "Cipher": "sealing", "PostgresStore": "sync.store"}


def __getattr__(name: str) -> object:
    """What is asked for, loaded then: a relay uses neither store, and each brings a part of SQLAlchemy."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    return found
