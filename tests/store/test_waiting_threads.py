"""Waiting where the process has no thread left to listen with."""

import threading

import pytest
from sqlalchemy import Engine

from fsm_core.postgres import PostgresStore, waiting
from tests.store.machines import Drop, New, orders
from tests.store.waits import waiting as begun
from tests.store.world import PostgresWorld, plain


class Refused(threading.Thread):
    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def test_who_waits_is_told_and_the_next_one_listens(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PostgresStore(engine)
    store.start(orders, 7, New(1))
    with monkeypatch.context() as patched:
        patched.setattr(waiting.threading, "Thread", Refused)
        with pytest.raises(RuntimeError, match="new thread"):
            store.wait(orders, 7, 30)

    waiter = begun(PostgresWorld(store, plain(engine.url.render_as_string(hide_password=False))), orders, 7)
    store.advance(orders, 7, Drop())

    assert waiter.result(10).seq == 1
