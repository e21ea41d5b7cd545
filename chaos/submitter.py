"""A submitter: an application that advances machines, in every way there is, and writes down what it was answered.

    python -m chaos.entry submitter INDEX        (the plan is in CHAOS_PLAN)

Its journal: `try` before each call; then `ok` with the seq, `no` for a refusal, `unknown` for an error after which it cannot know;
`bug` for whatever nobody has promised. Killed and started again, it goes on where its journal ends; what it does not know the end of and
has a dedup key is brought again, as a webhook would be.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from zlib import crc32

import psycopg
from sqlalchemy import create_engine, exc
from sqlalchemy.ext.asyncio import create_async_engine

from chaos import plan as planning
from chaos.flows import Basket, Paid, flow
from chaos.machines import ALL, Bad, Do, Odd, job
from chaos.truth import FOLDER, JOURNALS, append, lines
from fsm_core.errors import (
    Busy,
    DatabaseUnavailable,
    Deadlock,
    FsmError,
    NotFound,
    PoolExhausted,
    Refused,
    Rejected,
    SerializationConflict,
    UnhandledEvent,
)
from fsm_core.postgres import AsyncPostgresStore, PostgresStore
from fsm_core.steps import Next

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chaos.plan import Event, Plan

PLAN, BEGAN, HEALED, DONE = "CHAOS_PLAN", "CHAOS_BEGAN", "healed", "done."
AWAY = (DatabaseUnavailable, PoolExhausted, Busy)
OF_A_SESSION = (
    SerializationConflict,
    Deadlock,
    exc.DBAPIError,
    exc.InvalidRequestError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)
"""What the caller of its own transaction must expect besides."""

AT_ONCE = 4
"""How many tasks, or threads, a submitter brings events with. They do it in bursts of as many, so that calls go together (decision 25)."""

FLOW_EVERY = 25
AGAIN_EVERY = 6


class Store(Protocol):
    """A store's verbs, whichever world it is of: a call gives what is to be awaited, or is made in a thread."""

    def start(self, *given: Any, **more: Any) -> Any: ...
    def advance(self, *given: Any, **more: Any) -> Any: ...
    def advance_many(self, *given: Any, **more: Any) -> Any: ...
    def signal(self, *given: Any, **more: Any) -> Any: ...


class Submitter:
    """One process's worth of it."""

    def __init__(self, plan: Plan, index: int, url: str) -> None:
        self._plan, self._index = plan, index
        self._folder = Path(os.environ[FOLDER])
        self._journal = self._folder / f"{JOURNALS}{index}"
        self._is_async = index == 0
        self._started: set[str] = set()
        if self._is_async:
            self._async_engine = create_async_engine(url, pool_size=AT_ONCE)
            self._store: Store = AsyncPostgresStore(self._async_engine, machines=ALL)
        else:
            self._engine = create_engine(url, pool_size=AT_ONCE)
            self._store = PostgresStore(self._engine, machines=ALL)

    async def run(self) -> None:
        """Bring everything that is still to be brought, in its time; then the tail, when all faults are over."""
        began = float(os.environ[BEGAN])
        over, open_ = self._known()
        events = list(planning.share(self._plan, self._index))
        pace = self._plan.seconds / max(len(events), 1)
        due_at = [began + n // AT_ONCE * AT_ONCE * pace for n in range(len(events))]
        left = iter([(due, event) for due, event in zip(due_at, events, strict=True) if event.id not in over])

        async def lane() -> None:
            for due, event in left:
                await asyncio.sleep(max(due - time.time(), 0))
                await self._bring(event, seen=event.id in open_)

        await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
        (self._folder / f"{DONE}{self._index}").touch()
        while not (self._folder / HEALED).exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.1)
        for event in planning.tail(self._plan, self._index):
            if event.id not in over:
                await self._bring(event, seen=False)

    def _known(self) -> tuple[set[str], set[str]]:
        """What it has brought, and what it had begun to bring when it was killed."""
        tried, over = set(), set()
        for kind, *rest in lines(self._journal):
            if kind == "try":
                tried.add(rest[0])
            elif kind in ("ok", "no", "unknown"):
                over.add(rest[0])
        return over, tried - over

    async def _bring(self, event: Event, *, seen: bool) -> None:
        if seen and event.style != "dedup":
            self._say("unknown", event.id, "killed")
            return
        await self._ready(event)
        if event.style in ("bad", "odd"):
            await self._refused(event)
        if crc32(event.id.encode()) % FLOW_EVERY == 0:
            await self._flow(event)
        verb: Callable[[Event], Any] = {
            "dedup": self._dedup,
            "session": self._session,
            "rolled back": self._session,
            "many": self._many,
        }.get(event.style, self._own)
        self._say("try", event.id, event.key, event.style, event.kind)
        await verb(event)

    async def _ready(self, event: Event) -> None:
        while event.key not in self._started:
            try:
                await self._do(self._store.start, job, event.key)
                self._started.add(event.key)
            except AWAY:
                await asyncio.sleep(0.1)
            except Exception as error:  # noqa: BLE001 - whatever nobody has promised is what is looked for
                self._bug(f"start {event.key}", error)
                return

    async def _own(self, event: Event) -> None:
        try:
            answer = await self._do(self._store.advance, job, event.key, Do(event.id, event.kind))
        except AWAY as error:
            self._say("unknown", event.id, type(error).__name__)
        except Exception as error:  # noqa: BLE001 - whatever nobody has promised is what is looked for
            self._bug(event.id, error)
        else:
            self._say("ok", event.id, answer.seq)

    async def _dedup(self, event: Event) -> None:
        """Until it is known: then, now and then, once more."""
        first = await self._keyed(event)
        if first is not None and crc32(event.id.encode()) % AGAIN_EVERY == 0:
            again = await self._keyed(event)
            if again is not None and (not again.duplicate or again.seq != first.seq):
                self._say("bug", event.id, f"brought again: {again.duplicate} {first.seq} {again.seq}")

    async def _keyed(self, event: Event) -> Any:
        while True:
            try:
                answer = await self._do(
                    self._store.advance, job, event.key, Do(event.id, event.kind), dedup_key=event.id
                )
            except AWAY:
                await asyncio.sleep(0.2)
            except Exception as error:  # noqa: BLE001 - whatever nobody has promised is what is looked for
                self._bug(event.id, error)
                return None
            else:
                self._say("ok", event.id, answer.seq)
                return answer

    async def _session(self, event: Event) -> None:
        """In a transaction of its own: ours and the caller's row go together."""
        answer = None
        try:
            async with self._transaction() as session:
                answer = await self._do(
                    self._store.advance, job, event.key, Do(event.id, event.kind), session=session
                )
                if event.style == "rolled back":
                    raise Rejected("the caller has changed its mind")  # noqa: TRY301 - as a caller would
        except Rejected:
            self._say("no", event.id, "rolled back")
        except (*AWAY, *OF_A_SESSION) as error:
            self._say("unknown", event.id, type(error).__name__)
        except Exception as error:  # noqa: BLE001 - whatever nobody has promised is what is looked for
            self._bug(event.id, error)
        else:
            self._say("ok", event.id, answer.seq)

    async def _many(self, event: Event) -> None:
        try:
            (answer,) = await self._do(self._store.advance_many, job, [(event.key, Do(event.id, event.kind))])
        except AWAY as error:
            self._say("unknown", event.id, type(error).__name__)
        except Exception as error:  # noqa: BLE001 - whatever nobody has promised is what is looked for
            self._bug(event.id, error)
        else:
            if isinstance(answer, Exception):
                self._bug(event.id, answer)
            else:
                self._say("ok", event.id, answer.seq)

    async def _refused(self, event: Event) -> None:
        """What must be refused is: nothing of it may be anywhere."""
        wrong, reason = (Bad, Rejected) if event.style == "bad" else (Odd, UnhandledEvent)
        id_ = f"{event.id}.{event.style}"
        self._say("try", id_, event.key, event.style, "")
        try:
            await self._do(self._store.advance, job, event.key, wrong(id_), dedup_key=id_)
        except (reason, *AWAY) as error:
            self._say("no", id_, type(error).__name__)
        except Exception as error:  # noqa: BLE001 - whatever nobody has promised is what is looked for
            self._bug(id_, error)
        else:
            self._say("bug", id_, "was not refused")

    async def _flow(self, event: Event) -> None:
        """Start a flow of steps and signal it, the signal first every other time."""
        id_, key = f"{event.id}.paid", f"flow-{event.id}"

        async def start() -> None:
            await self._do(self._store.start, flow, key, Next("begin", Basket(event.id)))

        async def signal() -> None:
            await self._do(self._store.signal, flow, key, Paid(id_), dedup_key=id_)

        calls = [start, signal]
        self._say("try", id_, key, "signal", "")
        for call in calls if crc32(id_.encode()) % 2 else reversed(calls):
            while True:
                try:
                    await call()
                    break
                except AWAY:
                    await asyncio.sleep(0.2)
                except (Refused, NotFound) as error:
                    self._say("no", id_, type(error).__name__)  # the operator has cancelled it
                    return
                except Exception as error:  # noqa: BLE001 - whatever nobody has promised is what is looked for
                    self._bug(id_, error)
                    return
        self._say("ok", id_, 0)

    async def _do(self, verb: Callable[..., Any], *given: Any, **more: Any) -> Any:
        if self._is_async:
            return await verb(*given, **more)
        return await asyncio.to_thread(verb, *given, **more)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[object]:
        if self._is_async:
            async with self._async_engine.begin() as connection:
                yield connection
        else:
            with self._engine.begin() as connection:
                yield connection

    def _bug(self, id_: str, error: BaseException) -> None:
        kind = type(error).__name__ if isinstance(error, FsmError) else f"unexpected {type(error).__name__}"
        self._say("bug", id_, kind, " ".join(str(error).split()))

    def _say(self, *fields: object) -> None:
        append(self._journal, *fields)


def main(arguments: list[str]) -> int:
    """Run one submitter to its end. Returns 0."""
    plan: Plan = pickle.loads(Path(os.environ[PLAN]).read_bytes())
    asyncio.run(Submitter(plan, int(arguments[0]), os.environ["DATABASE_URL"]).run())
    return 0
