"""`stats`: how much there is of everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_core.postgres.ask import run
from fsm_core.postgres.engine import own_engine
from fsm_core.postgres.flows import doctor as flows
from fsm_core.postgres.own import Own
from workers.doctor.examine import LOOK

if TYPE_CHECKING:
    from workers.settings import Settings


def count(settings: Settings) -> flows.Stats:
    """What there is. Raises StoreError; SchemaError without the tables."""
    own = Own(own_engine(settings.database_url, pool_size=1))
    try:
        with own.connected("stats") as connection, connection.transaction():
            run(connection, settings.schema, flows.bounded(LOOK))
            return run(connection, settings.schema, flows.stats())
    finally:
        own.close()
