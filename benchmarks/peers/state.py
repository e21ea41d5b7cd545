"""What an application writes by hand beside a job queue: a row's state before the effect, and after it."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import psycopg

from benchmarks.peers.port import DATABASE_URL

TABLE = """
CREATE TABLE bench_state (id int PRIMARY KEY, asked int NOT NULL, answered int NOT NULL, began float8 NOT NULL)
  WITH (fillfactor = 80)
"""
ASK = "UPDATE bench_state SET asked = asked + 1 WHERE id = %s"
ASK_MANY = "UPDATE bench_state SET asked = asked + 1 WHERE id = ANY (%s)"
ANSWER = "UPDATE bench_state SET answered = answered + 1, began = %s WHERE id = %s"

_WAIT = 60.0


class HandWritten:
    """A peer whose state is `bench_state`. What is its own: `install`, `begin` and `begin_many`."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._next: Iterator[int] = iter(())

    def prepare(self, machines: int) -> None:
        """The table, and what the library needs."""
        connection = self.connection()
        connection.execute(TABLE)
        connection.execute(
            "INSERT INTO bench_state SELECT n, 0, 0, 0 FROM generate_series(1, %s) n", [machines]
        )
        self.install()
        connection.execute("ANALYZE bench_state")
        self._next = cycle(range(1, machines + 1))

    def install(self) -> None:
        """The library's own tables."""

    def begin(self, connection: psycopg.Connection[tuple[object, ...]], machine: int) -> float:
        """The state before, and the job; when the state was committed, in seconds since 1970."""
        raise NotImplementedError

    def begin_many(self, connection: psycopg.Connection[tuple[object, ...]], machines: Sequence[int]) -> None:
        """The same for many, in one transaction."""
        raise NotImplementedError

    def submit(self, count: int, clients: int) -> None:
        """Begin cycles one by one, each thread on a connection of its own."""
        ids = list(islice(self._next, count))
        with ThreadPoolExecutor(clients) as pool:
            for each in [pool.submit(self._one_by_one, ids[n::clients]) for n in range(clients)]:
                each.result()

    def submit_many(self, count: int, batch: int) -> None:
        """Begin cycles, many in one transaction."""
        for _ in range(count // batch):
            self.begin_many(self.connection(), list(islice(self._next, batch)))

    def done(self) -> int:
        """Cycles that have ended."""
        row = self.connection().execute("SELECT sum(answered) FROM bench_state").fetchone()
        return int(str(row[0])) if row else 0

    def one(self) -> tuple[float, float]:
        """One cycle, with the time of its commit and of its effect."""
        machine = next(self._next)
        before = self._seen(machine)
        committed = self.begin(self.connection(), machine)
        pause = threading.Event()
        while time.time() < committed + _WAIT:
            pause.wait(0.02)
            answered, began = self._seen(machine)
            if answered > before[0]:
                return committed, began
        raise TimeoutError

    def connection(self) -> psycopg.Connection[tuple[object, ...]]:
        """This thread's own, in autocommit."""
        if not hasattr(self._local, "connection"):
            self._local.connection = psycopg.connect(DATABASE_URL, autocommit=True)
        found: psycopg.Connection[tuple[object, ...]] = self._local.connection
        return found

    def _seen(self, machine: int) -> tuple[int, float]:
        query = "SELECT answered, began FROM bench_state WHERE id = %s"
        row = self.connection().execute(query, [machine]).fetchone()
        return (int(str(row[0])), float(str(row[1]))) if row else (0, 0.0)

    def _one_by_one(self, machines: Sequence[int]) -> None:
        connection = self.connection()
        for machine in machines:
            self.begin(connection, machine)
        # The thread ends here, and would leave its connection behind.
        connection.close()
        del self._local.connection
