"""DBOS: the state before is the enqueued workflow, the effect its one step, the state after the step's and its own result.

Variants, as JSON: poll (seconds between two looks at the queue). Without: its default, one second.
"""

import json
import threading
import time

import psycopg
from dbos import DBOS, DBOSClient, WorkflowHandle

from benchmarks.peers.port import DATABASE_URL, VARIANT, in_threads, main

OPTIONS = json.loads(VARIANT) if VARIANT else {}
_QUEUE = "bench"
_VERSION = "bench"


def configured() -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": DATABASE_URL,
            "application_version": _VERSION,
            "log_level": "WARNING",
        }
    )


@DBOS.step()
def effect() -> float:
    return time.time()


@DBOS.workflow()
def work() -> float:
    return effect()


class DbosPeer:
    def __init__(self) -> None:
        self._look = psycopg.connect(DATABASE_URL, autocommit=True)
        self._client: DBOSClient | None = None

    def prepare(self, machines: int) -> None:  # noqa: ARG002 - its state is its workflows
        configured()
        DBOS.launch()
        register()
        DBOS.destroy()
        self._client = DBOSClient(system_database_url=DATABASE_URL)

    def submit(self, count: int, clients: int) -> None:
        in_threads(self._one_by_one, count, clients)

    def submit_many(self, count: int, batch: int) -> None:  # noqa: ARG002 - the port's
        """It has no call for many."""
        self.submit(count, 4)

    def done(self) -> int:
        row = self._look.execute(
            "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'"
        ).fetchone()
        return int(row[0]) if row else 0

    def one(self) -> tuple[float, float]:
        handle = self._enqueue()
        committed = time.time()
        return committed, float(handle.get_result())

    def work(self) -> None:
        configured()
        DBOS.listen_queues([_QUEUE])
        DBOS.launch()
        register()
        threading.Event().wait()

    def _one_by_one(self, count: int) -> None:
        for _ in range(count):
            self._enqueue()

    def _enqueue(self) -> WorkflowHandle[float]:
        assert self._client is not None
        return self._client.enqueue({"queue_name": _QUEUE, "workflow_name": work.__qualname__})


def register() -> None:
    poll = {"polling_interval_sec": OPTIONS["poll"]} if "poll" in OPTIONS else {}
    DBOS.register_queue(_QUEUE, **poll)


if __name__ == "__main__":
    main(DbosPeer())
