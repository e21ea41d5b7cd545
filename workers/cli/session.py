"""What a verb opens: the settings, the machines that they list, and a store on the database."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fsm_core.errors import ConfigurationError
from workers.settings import load, read

if TYPE_CHECKING:
    from fsm_core.postgres import PostgresStore
    from fsm_core.registry import AnyMachine, Registry

_CONNECT_TIMEOUT = 5


@contextmanager
def opened(*, machines: bool = False) -> Generator[PostgresStore]:
    """The store of the settings; with `machines`, it knows those that the settings list.

    Raises ConfigurationError (also if `machines` and none are listed), DefinitionError.
    """
    settings = read()
    registry = known_machines(settings.machines) if machines else None
    from sqlalchemy import create_engine

    from fsm_core.postgres import PostgresStore
    from fsm_core.postgres.urls import engine_url

    url = engine_url(settings.database_url)
    # A host that swallows packets would be waited for minutes at each try.
    given = {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_TIMEOUT}
    engine = create_engine(url, connect_args=given)
    try:
        listed = () if registry is None else registry.machines()
        yield PostgresStore(engine, machines=listed, schema=settings.schema, cipher=settings.cipher)
    finally:
        engine.dispose()


def known_machines(entries: Sequence[str]) -> Registry:
    """The machines that `entries` list. Raises ConfigurationError if there are none, or one cannot be had."""
    if not entries:
        raise ConfigurationError(
            "no machines are listed; set FSM_MACHINES=module:name, or fsm_machines in celeryconfig.py"
        )
    return load(entries)


def machine_of(store: PostgresStore, name: str, key: str) -> AnyMachine:
    """The machine whose classes the row `name`/`key` was written with.

    Raises UnknownMachine, and MachineNotFound where several versions are registered and the row is asked for its own.
    """
    if len(store.registry.known().get(name, ())) > 1:
        return store.registry.machine(name, store.record(name, key).version)
    return store.registry.newest(name)
