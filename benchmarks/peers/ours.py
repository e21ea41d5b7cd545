"""fsm-core itself, with its defaults: `store.advance` in 8 threads, `fsm relay`, `fsm worker --pool threads`."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy import create_engine

from benchmarks.machine import NAME, Counted, Go, bench
from benchmarks.peers.port import DATABASE_URL, in_threads, main
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.migrate import upgrade
from fsm_core.postgres.urls import engine_url

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAIT = 60.0

# What `store.start` writes for each, in one statement: a beginning, nothing that is measured.
FILL = f"""
WITH m AS (
  INSERT INTO fsm.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at)
  SELECT uuidv7(), '{NAME}', n::text, 1, 'live', 'Counted', %(state)s::jsonb, 0, 0, now(), now()
    FROM generate_series(1, %(machines)s::int) n ON CONFLICT (fsm, key) DO NOTHING RETURNING id, state)
INSERT INTO fsm.events (machine_id, seq, name, payload, version, outcome, source, occurred_at)
SELECT id, 0, 'Counted', state, 1, 'applied', 'start', now() FROM m
"""
ANSWERED = f"SELECT sum((state ->> 'answered')::bigint) FROM fsm.machines WHERE fsm = '{NAME}'"


class Ours:
    def __init__(self) -> None:
        self._engine = create_engine(engine_url(DATABASE_URL), pool_size=16)
        self._store = PostgresStore(self._engine, machines=[bench])
        self._look = psycopg.connect(DATABASE_URL, autocommit=True)
        self._next: Iterator[str] = iter(())

    def prepare(self, machines: int) -> None:
        upgrade(DATABASE_URL)
        state = '{"asked": 0, "answered": 0, "began": 0.0}'
        self._look.execute(FILL, {"machines": machines, "state": state})
        self._look.execute("ANALYZE fsm.machines")
        self._next = cycle([str(n) for n in range(1, machines + 1)])

    def submit(self, count: int, clients: int) -> None:
        """8 web processes would be quicker than 8 threads of one; these are what a threaded server has."""
        with ThreadPoolExecutor(clients) as pool:
            keys = list(islice(self._next, count))
            for each in [pool.submit(self._one_by_one, keys[n::clients]) for n in range(clients)]:
                each.result()

    def submit_many(self, count: int, batch: int, nap: float = 0.0) -> None:
        for _ in range(count // batch):
            keys = list(islice(self._next, batch))
            for answer in self._store.advance_many(bench, [(key, Go(nap)) for key in keys]):
                if isinstance(answer, Exception):
                    raise answer

    def done(self) -> int:
        row = self._look.execute(ANSWERED).fetchone()
        return int(row[0]) if row else 0

    def one(self) -> tuple[float, float]:
        key = next(self._next)
        seq = self._store.advance(bench, key, Go()).seq
        committed = time.time()
        pause = threading.Event()
        while time.time() < committed + _WAIT:
            pause.wait(0.02)
            snapshot = self._store.get(bench, key)
            if snapshot.seq > seq and isinstance(snapshot.state, Counted):
                return committed, snapshot.state.began
        raise TimeoutError

    def hot(self, count: int, clients: int) -> None:
        """One machine, everybody at once. Raises if its log has a gap or lost an event."""
        key = next(self._next)
        before = self._store.get(bench, key).seq
        in_threads(lambda share: self._one_by_one([key] * share), count, clients)
        log = [event.seq for event in self._store.history(bench, key)]
        if log != list(range(before + count + 1)):
            raise AssertionError(
                f"{len(log)} events, from {before} on {count} more were to be; the last is {log[-1]}"
            )

    def _one_by_one(self, keys: list[str]) -> None:
        for key in keys:
            self._store.advance(bench, key, Go())


if __name__ == "__main__":
    main(Ours())
