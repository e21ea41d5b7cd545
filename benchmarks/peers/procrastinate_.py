"""procrastinate, the job deferred in the transaction of the state before; the state after is written by its task."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import procrastinate
import psycopg_pool

from benchmarks.peers.port import DATABASE_URL, VARIANT, main
from benchmarks.peers.state import ANSWER, ASK, ASK_MANY, HandWritten

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=DATABASE_URL, min_size=4, max_size=20)
)
deferring = procrastinate.App(
    connector=procrastinate.SyncPsycopgConnector(conninfo=DATABASE_URL, max_size=10)
)
_NAME = "work"


class Procrastinate(HandWritten):
    def install(self) -> None:
        deferring.open()
        deferring.schema_manager.apply_schema()

    def begin(self, connection: psycopg.Connection[tuple[object, ...]], machine: int) -> float:
        with connection.transaction():
            connection.execute(ASK, [machine])
            deferring.configure_task(_NAME, connection=connection).defer(machine=machine)
        return time.time()

    def begin_many(self, connection: psycopg.Connection[tuple[object, ...]], machines: Sequence[int]) -> None:
        with connection.transaction():
            connection.execute(ASK_MANY, [list(machines)])
            deferring.configure_task(_NAME, connection=connection).batch_defer(
                *({"machine": n} for n in machines)
            )

    def work(self) -> None:
        options = json.loads(VARIANT) if VARIANT else {}
        asyncio.run(working(options))


async def working(options: dict[str, int]) -> None:
    size = max(options.get("concurrency", 1), 2)
    pool = psycopg_pool.AsyncConnectionPool(
        DATABASE_URL, min_size=size, max_size=size, open=False, kwargs={"autocommit": True}
    )

    @app.task(name=_NAME)
    async def work(machine: int) -> None:
        began = time.time()
        async with pool.connection() as connection:
            await connection.execute(ANSWER, [began, machine])

    async with pool, app.open_async():
        await app.run_worker_async(**options)


if __name__ == "__main__":
    main(Procrastinate())
