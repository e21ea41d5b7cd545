"""Celery with two state writes by hand and no outbox: what is lost between commit and publish, stays lost."""

import os
import time
from collections.abc import Sequence
from threading import local

import psycopg
from celery import Celery

from benchmarks.peers.port import BROKER_URL, DATABASE_URL, VARIANT, main
from benchmarks.peers.state import ANSWER, ASK, ASK_MANY, HandWritten

app = Celery("state", broker=BROKER_URL)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
if VARIANT == "tuned":
    app.conf.broker_transport_options = {"ack_emulation": False}

_own = local()


def own() -> "psycopg.Connection[tuple[object, ...]]":
    """A connection of each thread, and of each process of prefork."""
    if getattr(_own, "pid", None) != os.getpid():
        _own.pid, _own.connection = os.getpid(), psycopg.connect(DATABASE_URL, autocommit=True)
    found: psycopg.Connection[tuple[object, ...]] = _own.connection
    return found


@app.task(name="work")
def work(machine: int) -> None:
    began = time.time()
    own().execute(ANSWER, [began, machine])


class CeleryState(HandWritten):
    def begin(self, connection: "psycopg.Connection[tuple[object, ...]]", machine: int) -> float:
        connection.execute(ASK, [machine])
        committed = time.time()
        work.delay(machine)
        return committed

    def begin_many(
        self, connection: "psycopg.Connection[tuple[object, ...]]", machines: Sequence[int]
    ) -> None:
        connection.execute(ASK_MANY, [list(machines)])
        for machine in machines:
            work.delay(machine)


if __name__ == "__main__":
    main(CeleryState())
