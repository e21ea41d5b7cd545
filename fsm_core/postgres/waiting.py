"""Waiting for machines to end: one connection that listens, for everybody who waits in a process.

It is opened when somebody begins to wait, beside the engine's pool and just as the pool opens its own, and closed when nobody
waits any more. Who ends a machine pays nothing for it unless somebody waits. Proof that no end is missed: docs/protocol.md,
section 8.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from tenacity import AsyncRetrying, RetryError, Retrying, retry_if_exception_type, wait_random_exponential

from fsm_core.delivery.waiters import Waiters
from fsm_core.errors import Busy, DatabaseUnavailable, PoolExhausted
from fsm_core.postgres.ask import Ask, run, run_async
from fsm_core.postgres.own import AsyncOwn, Own
from fsm_core.postgres.statements import waiters_place
from fsm_core.postgres.statements import waiting as sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from uuid import UUID

    import psycopg
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine
    from tenacity import RetryCallState
    from tenacity.retry import retry_base
    from tenacity.wait import wait_base

WHAT = "wait"

FLOOR_FIRST, FLOOR_MOST = 1.0, 5.0
"""Seconds between two looks where no notification arrives (PgBouncer in transaction mode)."""

REFUSED_FIRST, REFUSED_MOST = 0.01, 0.5
"""Seconds between two tries for the lock of a machine that is just being ended; a caller's transaction may take long."""

GRACE = "100ms"
"""How long to wait for transactions that have ended a machine before they could know that somebody listens."""

LINGER = 1.0
"""Seconds for which the connection is kept when nobody waits: the next one may be a moment away."""

BREATH = 0.1
"""Seconds between a connection that broke and the next one."""

PATIENCE = 60.0
"""Seconds for which the database may be away; then everybody who waits is told."""


class Watch:
    """What a listening connection has to do, as flows: lock, look, sleep. It begins anew with each connection.

    waiters: who waits for what. backend: the process id that the connection was given at its login.
    """

    def __init__(self, waiters: Waiters, backend: int) -> None:
        self._waiters = waiters
        self._backend = backend
        self._word = uuid.uuid4().hex
        self._listens = False
        self._announced = False
        self._quiet = False
        """Whether all who end machines know that somebody listens. Before that, no lock of a machine says anything."""
        self._shared: set[int] = set()
        self._seen: set[UUID] = set()
        """Looked at under their lock: their end will be told. All others have to be looked at."""
        self._idle = False
        self._floor = FLOOR_FIRST
        self._refused = REFUSED_FIRST

    async def opened(self) -> None:
        """Listen, and send the word that has to come back: only then is it slept on."""
        # A pooler passes on what comes while it holds the server's connection for us, so the echo alone proves nothing; and what is
        # set there (a lock_timeout of a moment) stays with whoever has that connection next.
        if await Ask(sql.BACKEND, {}, lambda rows: rows[0][0]) != self._backend:
            return
        await Ask(sql.LISTEN, {}, len)
        await Ask(sql.GRACE_TIMEOUT, {"wait": GRACE}, len)
        await Ask(sql.ECHO, {"word": self._word}, len)

    async def round(self) -> float | None:
        """Take and drop locks, look, wake whose machine has ended. Returns how long to sleep; None: nobody waits any more."""
        machines = self._waiters.machines()
        wanted = {waiters_place(machine) for machine in machines} if self._listens else set[int]()
        if wanted and not self._quiet:
            self._quiet = await self._heard()
        await self._share(wanted if self._quiet else set())
        self._seen &= machines
        await self._look(machines - self._seen)
        if not machines:
            over, self._idle = self._idle, True
            return None if over else LINGER
        self._idle = False
        if self._listens and wanted == self._shared:
            self._refused = REFUSED_FIRST
            return FLOOR_MOST
        if self._listens:
            now, self._refused = self._refused, min(self._refused * 2, REFUSED_MOST)
            return now
        now, self._floor = self._floor, min(self._floor * 2, FLOOR_MOST)
        return now

    def slept(self, heard: Iterable[str], *, nudged: bool) -> None:
        """Note why the sleep ended: what was notified; nudged: somebody new waits."""
        told = set(heard)
        if self._word in told:
            self._listens = True
        if nudged:
            self._floor = FLOOR_FIRST
        elif not told:
            self._seen.clear()  # a sleep to its end: look at all once more, whatever was thought to be certain
        ended = {machine for text in told if (machine := _machine(text)) is not None}
        self._seen -= ended
        self._waiters.wake(ended)

    async def _heard(self) -> bool:
        """Say that somebody listens, and wait for those who could not know it. Returns whether all know it now."""
        self._announced = self._announced or await Ask(sql.ANNOUNCE, {}, lambda rows: bool(rows[0][0]))
        if not self._announced:
            return False
        try:
            await Ask(sql.GRACE, {}, len)
        except Busy:
            return False  # a transaction that has ended a machine is still open
        return True

    async def _share(self, wanted: set[int]) -> None:
        if gone := self._shared - wanted:
            await Ask(sql.UNSHARE, {"places": sorted(gone)}, len)
            self._shared -= gone
        if new := wanted - self._shared:
            got: set[int] = await Ask(
                sql.SHARE, {"places": sorted(new)}, lambda rows: {row[0] for row in rows}
            )
            self._shared |= got

    async def _look(self, machines: set[UUID]) -> None:
        if not machines:
            return
        ended: set[UUID] = await Ask(
            sql.ENDED, {"ids": list(machines)}, lambda rows: {row[0] for row in rows}
        )
        self._seen |= {each for each in machines - ended if waiters_place(each) in self._shared}
        self._waiters.wake(ended)


class Nudge:
    """Ends the sleep of a listening connection from another thread."""

    def __init__(self) -> None:
        self._here, self._there = socket.socketpair()
        for end in (self._here, self._there):
            end.settimeout(0)

    def ring(self) -> None:
        """End the present sleep, or the next one."""
        with contextlib.suppress(BlockingIOError):  # it has rung often enough
            self._there.send(b"!")

    def sleep(self, descriptor: int, seconds: float) -> bool:
        """Sleep until something can be read from `descriptor`, at most `seconds`. Returns whether it was a nudge."""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            selector.register(self._here, selectors.EVENT_READ)
            selector.select(seconds)
        return self._rung()

    async def sleep_async(self, descriptor: int, seconds: float) -> bool:
        """As `sleep`, while the event loop goes on."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        for readable in (descriptor, self._here.fileno()):
            loop.add_reader(readable, woken.set)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), seconds)
        finally:
            for readable in (descriptor, self._here.fileno()):
                loop.remove_reader(readable)
        return self._rung()

    def close(self) -> None:
        """Close both ends."""
        self._here.close()
        self._there.close()

    def _rung(self) -> bool:
        rung = False
        with contextlib.suppress(BlockingIOError):
            while self._here.recv(4096):
                rung = True
        return rung


class _Listening:
    """What both listeners share: who waits, and whether somebody listens for them."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._waiters = Waiters()
        self._lock = threading.Lock()
        self._nudge: Nudge | None = None

    @contextlib.contextmanager
    def _joined(self, machine: UUID) -> Iterator[tuple[Future[None], Nudge | None]]:
        """Wait in here: the future, and what to listen with, if nobody listens yet: then that has to begin."""
        try:
            with self._waiters.waiting(machine) as end:
                with self._lock:
                    begins = self._nudge is None
                    self._nudge = self._nudge or Nudge()
                    self._nudge.ring()
                    nudge = self._nudge
                yield end, nudge if begins else None
        finally:
            with self._lock:
                if self._nudge is not None and not self._waiters.machines():
                    self._nudge.ring()  # let the lock go: it makes others notify

    def _goes_on(self) -> bool:
        """Whether somebody waits; if not, it is over, and whoever comes next begins anew."""
        with self._lock:
            if self._waiters.machines():
                return True
            self._over()
            return False

    def _failed(self, error: BaseException) -> None:
        """Tell everybody who waits. It is over."""
        if isinstance(error, RetryError):
            error = error.last_attempt.exception() or error
        with self._lock:
            self._over()
            self._waiters.fail(error)

    def _over(self) -> None:
        if self._nudge is not None:
            self._nudge.close()
            self._nudge = None

    def _policy(self) -> dict[str, Any]:
        """How a connection that cannot be had is tried again: while somebody waits, for as long as there is patience."""
        retry: retry_base = retry_if_exception_type((DatabaseUnavailable, PoolExhausted))
        stop: Callable[[RetryCallState], bool] = self._enough
        wait: wait_base = wait_random_exponential(multiplier=0.05, max=2)
        return {"retry": retry, "stop": stop, "wait": wait}

    def _enough(self, state: RetryCallState) -> bool:
        return (state.seconds_since_start or 0) > PATIENCE or not self._waiters.machines()


class Listener(_Listening):
    """Listens from a thread of its own, on a connection beside the pool of `engine`."""

    def __init__(self, engine: Engine, schema: str) -> None:
        super().__init__(schema)
        self._engine = engine

    def wait(self, machine: UUID, seconds: float | None) -> None:
        """Return when `machine` has ended, perhaps before, and after `seconds` at the latest. Raises StoreError."""
        with self._joined(machine) as (end, nudge):
            if nudge is not None:
                self._begin(nudge)
            with contextlib.suppress(TimeoutError):
                end.result(seconds)

    def _begin(self, nudge: Nudge) -> None:
        try:
            threading.Thread(target=self._listen, args=[nudge], name="fsm-wait", daemon=True).start()
        except RuntimeError as error:
            self._failed(error)  # no thread is to be had: who waits is told, and who comes next begins anew

    def _listen(self, nudge: Nudge) -> None:
        own = Own(create_engine(self._engine.url, pool=self._engine.pool.recreate()))
        try:
            while self._goes_on():
                try:
                    self._live(own, nudge)
                except DatabaseUnavailable:
                    time.sleep(BREATH)  # it broke: connect anew, and look again
        except Exception as error:  # noqa: BLE001 - nobody else would tell those who wait
            self._failed(error)
        finally:
            own.close()

    def _live(self, own: Own, nudge: Nudge) -> None:
        with contextlib.ExitStack() as stack:
            connection = Retrying(**self._policy())(lambda: stack.enter_context(own.connected(WHAT)))
            watch = Watch(self._waiters, connection.info.backend_pid)
            run(connection, self.schema, watch.opened())
            while (seconds := run(connection, self.schema, watch.round())) is not None:
                nudged = nudge.sleep(connection.fileno(), seconds)
                watch.slept([note.payload for note in connection.notifies(timeout=0)], nudged=nudged)


class AsyncListener(_Listening):
    """Listens from a task of its own, on a connection beside the pool of `engine`. For one event loop."""

    def __init__(self, engine: AsyncEngine, schema: str) -> None:
        super().__init__(schema)
        self._engine = engine
        self._task: asyncio.Task[None] | None = None

    async def wait(self, machine: UUID, seconds: float | None) -> None:
        """As `Listener.wait`."""
        with self._joined(machine) as (end, nudge):
            if nudge is not None:
                self._task = asyncio.create_task(self._listen(nudge), name="fsm-wait")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(end), seconds)

    async def _listen(self, nudge: Nudge) -> None:
        own = AsyncOwn(create_async_engine(self._engine.url, pool=self._engine.pool.recreate()))
        try:
            while self._goes_on():
                try:
                    await self._live(own, nudge)
                except DatabaseUnavailable:
                    await asyncio.sleep(BREATH)
        except BaseException as error:
            self._failed(error)
            if not isinstance(error, Exception):
                raise  # the loop ends
        finally:
            self._task = None
            await own.close()

    async def _live(self, own: AsyncOwn, nudge: Nudge) -> None:
        async with contextlib.AsyncExitStack() as stack:

            async def connect() -> psycopg.AsyncConnection[Any]:
                return await stack.enter_async_context(own.connected(WHAT))

            connection: psycopg.AsyncConnection[Any] = await AsyncRetrying(**self._policy())(connect)
            watch = Watch(self._waiters, connection.info.backend_pid)
            await run_async(connection, self.schema, watch.opened())
            while (seconds := await run_async(connection, self.schema, watch.round())) is not None:
                nudged = await nudge.sleep_async(connection.fileno(), seconds)
                watch.slept([note.payload async for note in connection.notifies(timeout=0)], nudged=nudged)


def _machine(text: str) -> uuid.UUID | None:
    """The machine that a notification names: anybody may have sent it."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
