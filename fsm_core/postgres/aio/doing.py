"""Doing, asynchronously."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from tenacity import AsyncRetrying

from fsm_core.errors import NotFound, Refused, UnsupportedConnection
from fsm_core.postgres import joined
from fsm_core.postgres.aio.together import AsyncTogether
from fsm_core.postgres.ask import Ask, run_async
from fsm_core.postgres.base import Base
from fsm_core.postgres.crash import Point, reached
from fsm_core.postgres.flows import advance as advancing
from fsm_core.postgres.flows import many as advancing_many
from fsm_core.postgres.flows.alone import Alone
from fsm_core.postgres.groups import PATIENCE
from fsm_core.postgres.own import AsyncOwn
from fsm_core.postgres.sync.doing import LOCK_TIMEOUT, RETRIED, WAITED

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from datetime import timedelta

    import psycopg
    from sqlalchemy.ext.asyncio import AsyncEngine

    from fsm_core.payload import Limits
    from fsm_core.postgres.sealing import Cipher
    from fsm_core.postgres.waiting import AsyncListener
    from fsm_core.records import Snapshot
    from fsm_core.registry import AnyEffects, AnyMachine

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")
T = TypeVar("T")


class AsyncDoing(Base):
    """How the verbs are done: on our own connections or on the caller's, once or again."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        machines: Iterable[AnyMachine | AnyEffects] = (),
        schema: str = "fsm",
        limits: Limits | None = None,
        lock_timeout: timedelta = LOCK_TIMEOUT,
        cipher: Cipher | None = None,
    ) -> None:
        if not engine.dialect.is_async or engine.dialect.driver != "psycopg":
            raise UnsupportedConnection(
                "AsyncPostgresStore takes an AsyncEngine on postgresql+psycopg:// (psycopg 3)"
            )
        super().__init__(
            engine.url,
            machines=machines,
            schema=schema,
            limits=limits,
            lock_timeout=lock_timeout,
            cipher=cipher,
        )
        self._engine = engine
        self._own = AsyncOwn(engine)
        self._listeners: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncListener] = WeakKeyDictionary()
        self._together = AsyncTogether(self._cold_group, PATIENCE)
        self._together_hot = AsyncTogether(self._hot_group, lock_timeout.total_seconds())

    async def _advance(self, call: advancing.Call) -> Snapshot[Any]:
        if self._is_hot(call):
            answer = await self._together_hot.ask((call.machine.name, call.key), call)
        else:
            answer = await self._together.ask(call.machine.name, call)
        if isinstance(answer.refusal, WAITED):
            raise answer.refusal
        found = await self._answered(answer)
        if isinstance(found, Exception):
            raise found
        return found

    async def _cold_group(self, calls: Sequence[advancing.Call]) -> list[advancing_many.Answer]:
        if len(calls) > 1:
            try:
                return await self._group(calls)
            except WAITED as error:
                return advancing_many.all_refused(calls, error)
        (call,) = calls
        answer = advancing_many.Answer(call)
        with suppress(*RETRIED):
            async with self._own.connected(call.what) as connection:
                answer.snapshot = await self._optimistic(connection, call, partial(advancing.advance, call))
        return [answer]

    async def _hot_group(self, calls: Sequence[advancing.Call]) -> list[advancing_many.Answer]:
        what = f"{calls[0].what} ({len(calls)} times)"
        if len(calls) > 1:
            self._heat(calls[0])
        try:
            async with self._own.connected(what) as connection, connection.transaction():
                await self._run(connection, self._lock_timeout, what)
                answers = await self._run(connection, partial(advancing_many.many_locked, calls), what)
                reached(Point.ADVANCE_BEFORE_COMMIT)
        except WAITED as error:
            return advancing_many.all_refused(calls, error)
        except RETRIED:
            return advancing_many.unanswered(calls)
        reached(Point.ADVANCE_AFTER_COMMIT)
        return answers

    async def _group(self, calls: Sequence[advancing.Call]) -> list[advancing_many.Answer]:
        what = f"advance {len(calls)} machines"
        async with self._own.connected(what) as connection:
            try:
                answers = await self._run(connection, partial(advancing_many.many, calls), what)
            except RETRIED:
                return advancing_many.unanswered(calls)
        reached(Point.ADVANCE_AFTER_COMMIT)
        return answers

    async def _decide_own(self, call: advancing.Call, flow: Callable[..., Coroutine[Ask[Any], Any, T]]) -> T:
        async for attempt in AsyncRetrying(**self._policy()):
            with attempt:
                return await self._decide_once(call, flow)
        raise AssertionError  # pragma: no cover - AsyncRetrying returns or raises

    async def _decide_once(self, call: advancing.Call, flow: Callable[..., Coroutine[Ask[Any], Any, T]]) -> T:
        async with self._own.connected(call.what) as connection:
            if call.tried_at is None and not self._is_hot(call):
                done = await self._optimistic(connection, call, flow)
                if done is not None:
                    return done
            async with connection.transaction():
                await self._run(connection, self._lock_timeout, call.what)
                done = await self._run(connection, partial(flow, locked=True), call.what)
                reached(Point.ADVANCE_BEFORE_COMMIT)
            reached(Point.ADVANCE_AFTER_COMMIT)
            return done

    async def _optimistic(
        self,
        connection: psycopg.AsyncConnection[Any],
        call: advancing.Call,
        flow: Callable[..., Coroutine[Ask[Any], Any, T]],
    ) -> T | None:
        try:
            done = await self._run(connection, partial(flow, locked=False), call.what)
        except Alone:
            return None
        except advancing.Conflict:
            call.tried_at = None
            self._heat(call)
            return None
        reached(Point.ADVANCE_AFTER_COMMIT)
        return done

    async def _answered(self, answer: advancing_many.Answer) -> Snapshot[Any] | Refused | NotFound:
        if answer.snapshot is not None:
            return answer.snapshot
        if isinstance(answer.refusal, Refused | NotFound):
            return answer.refusal
        try:
            return await self._decide_own(answer.call, partial(advancing.advance, answer.call))
        except (Refused, NotFound) as refusal:
            return refusal

    async def _once(
        self,
        what: str,
        flow: Callable[[], Coroutine[Ask[Any], Any, T]],
        session: joined.AsyncTransaction | None = None,
        *,
        opening: Callable[[], Coroutine[Ask[Any], Any, str | None]] | None = None,
    ) -> T:
        if session is not None:
            return await self._run(await joined.async_connection(session), flow, what)
        sent: tuple[str, T] | None = None
        async for attempt in AsyncRetrying(**self._policy()):
            with attempt:
                async with self._own.connected(what) as connection:
                    if opening is None:
                        return await self._run(connection, flow, what)
                    if sent is not None and await self._run(
                        connection, partial(self._committed, sent[0]), what
                    ):
                        return sent[1]
                    sent = None
                    async with connection.transaction():
                        xid = await self._run(connection, opening, what)
                        answer = await self._run(connection, flow, what)
                        sent = None if xid is None else (xid, answer)
                    return answer
        raise AssertionError  # pragma: no cover - AsyncRetrying returns or raises

    async def _run(
        self,
        connection: psycopg.AsyncConnection[Any],
        flow: Callable[[], Coroutine[Ask[Any], Any, T]],
        what: str,
    ) -> T:
        with self._told(what):
            return await run_async(connection, self.schema, flow(), self._cipher)
