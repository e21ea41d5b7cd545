"""Many calls of `advance` on one machine at once, in a process of its own: by threads, or by tasks of one event loop.

`python -m tests.load.hammer threads|tasks CALLS CONNECTIONS`, on DATABASE_URL. It says that it is ready, begins when it is told a
line, prints what came of it, and stays, with its connections open, until its standard input ends.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from fsm_core.errors import Busy, Deadlock, PoolExhausted, SerializationConflict
from fsm_core.postgres import AsyncPostgresStore, PostgresStore
from tests.store.counters import Bump, notes

KEY = "hot"
CONFLICTS = (Busy, PoolExhausted, SerializationConflict, Deadlock)
"""What may be answered to one of so many, besides the machine as it is after the event. Nothing changed then."""


class Done(TypedDict):
    """seqs: of the events that were accepted, one for each call. refused: how often which conflict was answered before."""

    seqs: list[int]
    refused: dict[str, int]
    checked_out: int


def by_threads(url: str, calls: int, connections: int) -> tuple[Done, Callable[[], None]]:
    """Each call in a thread of its own."""
    engine = create_engine(url, pool_size=connections, max_overflow=0, pool_timeout=60)
    store, refused = PostgresStore(engine), Counter[str]()

    def call(_number: int) -> int:
        while True:
            try:
                return store.advance(notes, KEY, Bump()).seq
            except CONFLICTS as conflict:
                refused[type(conflict).__name__] += 1

    with ThreadPoolExecutor(calls) as threads:
        begin()
        seqs = list(threads.map(call, range(calls)))
    checked_out: int = engine.pool.checkedout()  # type: ignore[attr-defined] # a QueuePool
    return Done(seqs=seqs, refused=refused, checked_out=checked_out), engine.dispose


async def by_tasks(
    url: str, calls: int, connections: int
) -> tuple[Done, Callable[[], Coroutine[Any, Any, None]]]:
    """Each call in a task of its own."""
    engine = create_async_engine(url, pool_size=connections, max_overflow=0, pool_timeout=60)
    store, refused = AsyncPostgresStore(engine), Counter[str]()

    async def call() -> int:
        while True:
            try:
                return (await store.advance(notes, KEY, Bump())).seq
            except CONFLICTS as conflict:
                refused[type(conflict).__name__] += 1

    begin()
    seqs = list(await asyncio.gather(*(call() for _ in range(calls))))
    checked_out: int = engine.pool.checkedout()  # type: ignore[attr-defined] # a QueuePool
    return Done(seqs=seqs, refused=refused, checked_out=checked_out), engine.dispose


def begin() -> None:
    """Wait for the word."""
    said("ready")
    sys.stdin.readline()


def told(done: Done) -> None:
    """Say what came of it, and stay until somebody has looked at the connections."""
    said(json.dumps(done))
    sys.stdin.read()


def said(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def tasks(url: str, calls: int, connections: int) -> None:
    done, dispose = await by_tasks(url, calls, connections)
    told(done)
    await dispose()


def main() -> None:
    how, calls, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    url = os.environ["DATABASE_URL"]
    if how == "tasks":
        asyncio.run(tasks(url, calls, connections))
        return
    done, dispose = by_threads(url, calls, connections)
    told(done)
    dispose()


if __name__ == "__main__":
    main()
