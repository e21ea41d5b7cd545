"""pgqueuer, the job enqueued in the transaction of the state before; the state after is written by its entrypoint.

Variants, as JSON: batch (how many are dequeued at once), state (false: the job alone), uvloop, connections.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle, islice

import asyncpg
import uvloop
from pgqueuer import PgQueuer, Queries
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.models import Job

from benchmarks.peers.port import DATABASE_URL, VARIANT, main
from benchmarks.peers.state import TABLE

OPTIONS = {"batch": 100, "state": True, "connections": 10} | (json.loads(VARIANT) if VARIANT else {})
_ENTRY = "work"
_ASK = "UPDATE bench_state SET asked = asked + 1 WHERE id = $1"
_ASK_MANY = "UPDATE bench_state SET asked = asked + 1 WHERE id = ANY ($1::int[])"
_ANSWER = "UPDATE bench_state SET answered = answered + 1, began = $1 WHERE id = $2"
_WAIT = 60.0


class PgqueuerPeer:
    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._next: Iterator[int] = iter(())
        self._submitted = 0
        self._look: asyncpg.Connection | None = None

    def prepare(self, machines: int) -> None:
        self._loop.run_until_complete(self._prepare(machines))
        self._next = cycle(range(1, machines + 1))

    def submit(self, count: int, clients: int) -> None:
        """Tasks of one event loop, quicker than as many threads; each on a connection of its own."""
        ids = list(islice(self._next, count))
        begin = begin_one if OPTIONS["state"] else begin_stateless
        self._loop.run_until_complete(gathered([one_by_one(begin, ids[n::clients]) for n in range(clients)]))
        self._submitted += count

    def submit_many(self, count: int, batch: int) -> None:
        self._loop.run_until_complete(self._batches(count, batch))
        self._submitted += count

    def done(self) -> int:
        return int(self._loop.run_until_complete(self._done()))

    def one(self) -> tuple[float, float]:
        return self._loop.run_until_complete(self._one(next(self._next)))

    def work(self) -> None:
        uvloop.run(working())

    async def _prepare(self, machines: int) -> None:
        self._look = await asyncpg.connect(DATABASE_URL)
        await Queries(AsyncpgDriver(self._look)).install()
        await self._look.execute(TABLE)
        await self._look.execute(
            "INSERT INTO bench_state SELECT n, 0, 0, 0 FROM generate_series(1, $1::int) n", machines
        )
        await self._look.execute("ANALYZE bench_state")

    async def _batches(self, count: int, batch: int) -> None:
        assert self._look is not None
        queries = Queries(AsyncpgDriver(self._look))
        for _ in range(count // batch):
            ids = list(islice(self._next, batch))
            async with self._look.transaction():
                if OPTIONS["state"]:
                    await self._look.execute(_ASK_MANY, ids)
                await queries.enqueue([_ENTRY] * batch, [str(n).encode() for n in ids], [0] * batch)

    async def _done(self) -> int:
        assert self._look is not None
        if OPTIONS["state"]:
            return int(await self._look.fetchval("SELECT sum(answered) FROM bench_state"))
        # A finished job has left the table.
        return self._submitted - int(await self._look.fetchval("SELECT count(*) FROM pgqueuer"))

    async def _one(self, machine: int) -> tuple[float, float]:
        assert self._look is not None
        seen = "SELECT answered, began FROM bench_state WHERE id = $1"
        before = await self._look.fetchrow(seen, machine)
        await begin_one(self._look, Queries(AsyncpgDriver(self._look)), machine)
        committed = time.time()
        while time.time() < committed + _WAIT:
            await asyncio.sleep(0.02)
            row = await self._look.fetchrow(seen, machine)
            if row["answered"] > before["answered"]:
                return committed, float(row["began"])
        raise TimeoutError


async def begin_one(connection: asyncpg.Connection, queries: Queries, machine: int) -> None:
    async with connection.transaction():
        await connection.execute(_ASK, machine)
        await queries.enqueue(_ENTRY, str(machine).encode())


async def begin_stateless(_connection: asyncpg.Connection, queries: Queries, machine: int) -> None:
    await queries.enqueue(_ENTRY, str(machine).encode())


async def one_by_one(
    begin: Callable[[asyncpg.Connection, Queries, int], Awaitable[None]], machines: Sequence[int]
) -> None:
    connection = await asyncpg.connect(DATABASE_URL)
    queries = Queries(AsyncpgDriver(connection))
    for machine in machines:
        await begin(connection, queries, machine)
    await connection.close()


async def gathered(work: Sequence[Awaitable[None]]) -> None:
    await asyncio.gather(*work)


async def working() -> None:
    """A worker: one connection to dequeue and to listen, as its documentation has it, a pool for the state."""
    own = await asyncpg.connect(DATABASE_URL)
    pool = await asyncpg.create_pool(
        DATABASE_URL, min_size=OPTIONS["connections"], max_size=OPTIONS["connections"]
    )
    queuer = PgQueuer(AsyncpgDriver(own))

    @queuer.entrypoint(_ENTRY)
    async def work(job: Job) -> None:
        began = time.time()
        if OPTIONS["state"] and job.payload is not None:
            await pool.execute(_ANSWER, began, int(job.payload))

    with suppress(asyncio.CancelledError):
        await queuer.run(batch_size=OPTIONS["batch"])


if __name__ == "__main__":
    main(PgqueuerPeer())
