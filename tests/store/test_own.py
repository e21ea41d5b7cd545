"""Our own connections from an application's engine."""

import pytest
from sqlalchemy import Engine

from fsm_core.postgres.own import Own


def test_who_is_interrupted_in_the_middle_of_a_statement_hears_of_nothing_else(engine: Engine) -> None:
    """What the connection has against being used again is no answer to Ctrl-C. It is thrown away."""
    own = Own(engine)
    with own.connected("look") as connection:
        pass

    def interrupted() -> None:
        with own.connected("do it") as again, own.transaction(again):
            again.pgconn.send_query(b"SELECT pg_sleep(60)")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert connection.closed, "it was the only one of the pool"
