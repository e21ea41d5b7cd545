"""A server that is silent is not waited for without end, whatever TCP thinks of it (rows 16 and 17)."""

import pytest
from sqlalchemy import text

from chaos.proxy import Proxy, Way
from fsm_core.errors import DatabaseUnavailable
from fsm_core.postgres.engine import own_engine
from fsm_core.postgres.outbox import PostgresOutbox


@pytest.mark.timeout(30)
def test_a_silent_database_is_given_up_and_found_again(database_url: str) -> None:
    """The statement ends with the error of a broken connection; the next one has a new connection."""
    with Proxy(database_url) as proxy:
        store = PostgresOutbox(own_engine(proxy.url, patience=0.3))
        assert store.queues() == {}
        for way in Way:
            proxy.drop(way)
            with pytest.raises(DatabaseUnavailable, match=r"no answer from the server for 0\.3 s"):
                store.queues()

            proxy.heal()

            assert store.queues() == {}
        store.close()


def test_a_statement_that_is_being_answered_is_waited_for(database_url: str) -> None:
    """Patience is for one exchange, not for a connection's life."""
    engine = own_engine(database_url, patience=0.2)
    with engine.connect() as connection:
        for _ in range(4):
            connection.execute(text("SELECT pg_sleep(0.1)"))
    engine.dispose()
