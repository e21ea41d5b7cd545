"""absurd: the state before is the spawned task, the state after its completed run."""

import json
import time
from collections.abc import Iterator
from itertools import repeat
from threading import Event

import psycopg
from absurd_sdk import Absurd
from absurdctl import BUNDLED_SCHEMA_SQL

from benchmarks.peers.port import DATABASE_URL, VARIANT, in_threads, main

_TASK = "work"
_WAIT = 60.0


class AbsurdPeer:
    def __init__(self) -> None:
        self._look = psycopg.connect(DATABASE_URL, autocommit=True)
        self._app = client()

    def prepare(self, machines: int) -> None:  # noqa: ARG002 - its state is its tasks
        self._look.execute(BUNDLED_SCHEMA_SQL)
        self._app.create_queue("default")

    def submit(self, count: int, clients: int) -> None:
        in_threads(self._one_by_one, count, clients)

    def submit_many(self, count: int, batch: int) -> None:
        with psycopg.connect(DATABASE_URL, autocommit=True) as connection:
            app = client(connection)
            for _ in range(count // batch):
                with connection.transaction(), connection.pipeline():
                    for machine in range(batch):
                        app.spawn(_TASK, {"machine": machine}, queue="default")

    def done(self) -> int:
        row = self._look.execute("SELECT count(*) FROM absurd.t_default WHERE state = 'completed'").fetchone()
        return int(row[0]) if row else 0

    def one(self) -> tuple[float, float]:
        task = self._app.spawn(_TASK, {"machine": 1}, queue="default")["task_id"]
        committed = time.time()
        for _ in self._pauses():
            row = self._look.execute(
                "SELECT completed_payload FROM absurd.t_default WHERE task_id = %s AND state = 'completed'",
                [task],
            ).fetchone()
            if row is not None:
                return committed, float(row[0]["began"])
        raise TimeoutError

    def work(self) -> None:
        """A worker, with the connection's own lock around its threads: more of them gain nothing."""
        app = client()

        @app.register_task(_TASK)
        def effect(_params: object, _ctx: object) -> dict[str, float]:
            return {"began": time.time()}

        options = json.loads(VARIANT) if VARIANT else {}
        app.start_worker(**options)

    def _one_by_one(self, count: int) -> None:
        app = client()
        for machine in range(count):
            app.spawn(_TASK, {"machine": machine}, queue="default")
        app.close()

    def _pauses(self) -> Iterator[None]:
        pause = Event()
        for _ in repeat(None, int(_WAIT / 0.02)):
            pause.wait(0.02)
            yield


def client(connection: "psycopg.Connection[tuple[object, ...]] | None" = None) -> Absurd:
    return Absurd(connection or DATABASE_URL)


if __name__ == "__main__":
    main(AbsurdPeer())
