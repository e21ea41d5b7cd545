"""Doing, synchronously."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import Retrying

from fsm_core.errors import (
    Busy,
    DatabaseUnavailable,
    Deadlock,
    NotFound,
    PoolExhausted,
    Refused,
    SerializationConflict,
    UnsupportedConnection,
)
from fsm_core.postgres import joined
from fsm_core.postgres.ask import Ask, run
from fsm_core.postgres.base import Base
from fsm_core.postgres.crash import Point, reached
from fsm_core.postgres.flows import advance as advancing
from fsm_core.postgres.flows import many as advancing_many
from fsm_core.postgres.flows.alone import Alone
from fsm_core.postgres.groups import PATIENCE
from fsm_core.postgres.own import Own
from fsm_core.postgres.sync.together import Together

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    import psycopg
    from sqlalchemy import Engine

    from fsm_core.payload import Limits
    from fsm_core.postgres.sealing import Cipher
    from fsm_core.postgres.waiting import Listener
    from fsm_core.records import Snapshot
    from fsm_core.registry import AnyEffects, AnyMachine

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")
T = TypeVar("T")

LOCK_TIMEOUT = timedelta(seconds=10)

WAITED = (Busy, PoolExhausted)
"""Those of a group have waited for it together, and not each after the other: it is the answer of each."""

RETRIED = (SerializationConflict, Deadlock, DatabaseUnavailable)
"""After these each call of a group is done alone, and looks first whether it got in."""


class Doing(Base):
    """How the verbs are done: on our own connections or on the caller's, once or again."""

    def __init__(
        self,
        engine: Engine,
        *,
        machines: Iterable[AnyMachine | AnyEffects] = (),
        schema: str = "fsm",
        limits: Limits | None = None,
        lock_timeout: timedelta = LOCK_TIMEOUT,
        cipher: Cipher | None = None,
    ) -> None:
        if engine.dialect.driver != "psycopg" or engine.dialect.is_async:
            raise UnsupportedConnection(
                f"the engine's driver is {engine.dialect.driver}; create it with postgresql+psycopg:// (psycopg 3)"
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
        self._own = Own(engine)
        self._listeners: dict[int, Listener] = {}
        self._together = Together(self._cold_group, PATIENCE)
        # Whoever leads there may wait for the lock as long.
        self._together_hot = Together(self._hot_group, lock_timeout.total_seconds())

    def _advance(self, call: advancing.Call) -> Snapshot[Any]:
        """In a transaction of our own; if other threads advance machines just then, in one with theirs."""
        if self._is_hot(call):
            answer = self._together_hot.ask((call.machine.name, call.key), call)
        else:
            answer = self._together.ask(call.machine.name, call)
        if isinstance(answer.refusal, WAITED):
            raise answer.refusal
        found = self._answered(answer)
        if isinstance(found, Exception):
            raise found
        return found

    def _cold_group(self, calls: Sequence[advancing.Call]) -> list[advancing_many.Answer]:
        """Calls of several threads for machines of one name. One that is by itself has the statements that are made for one.

        No lock is waited for here, nor a retry: others wait for all of this. Raises what one by itself is refused, or fails with.
        """
        if len(calls) > 1:
            try:
                return self._group(calls)
            except WAITED as error:
                return advancing_many.all_refused(calls, error)
        (call,) = calls
        answer = advancing_many.Answer(call)
        with suppress(*RETRIED), self._own.connected(call.what) as connection:
            answer.snapshot = self._optimistic(connection, call, partial(advancing.advance, call))
        return [answer]

    def _hot_group(self, calls: Sequence[advancing.Call]) -> list[advancing_many.Answer]:
        """Calls of several threads for one machine, under its lock; as long as there are several, it stays hot."""
        what = f"{calls[0].what} ({len(calls)} times)"
        if len(calls) > 1:
            self._heat(calls[0])
        try:
            with self._own.connected(what) as connection, self._own.transaction(connection):
                self._run(connection, self._lock_timeout, what)
                answers = self._run(connection, partial(advancing_many.many_locked, calls), what)
                reached(Point.ADVANCE_BEFORE_COMMIT)
        except WAITED as error:
            return advancing_many.all_refused(calls, error)
        except RETRIED:
            return advancing_many.unanswered(calls)
        reached(Point.ADVANCE_AFTER_COMMIT)
        return answers

    def _group(self, calls: Sequence[advancing.Call]) -> list[advancing_many.Answer]:
        """Decided and written in a few statements, as far as that goes: the rest is to be done alone."""
        what = f"advance {len(calls)} machines"
        with self._own.connected(what) as connection:
            try:
                answers = self._run(connection, partial(advancing_many.many, calls), what)
            except RETRIED:
                return advancing_many.unanswered(calls)
        reached(Point.ADVANCE_AFTER_COMMIT)
        return answers

    def _decide_own(self, call: advancing.Call, flow: Callable[..., Coroutine[Ask[Any], Any, T]]) -> T:
        """In a transaction of our own, again where that may help: the call looks first whether it got in."""
        for attempt in Retrying(**self._policy()):
            with attempt:
                return self._decide_once(call, flow)
        raise AssertionError  # pragma: no cover - Retrying returns or raises

    def _decide_once(self, call: advancing.Call, flow: Callable[..., Coroutine[Ask[Any], Any, T]]) -> T:
        """Optimistic in autocommit, then under the lock. Raises Conflict only if both missed."""
        with self._own.connected(call.what) as connection:
            if call.tried_at is None and not self._is_hot(call):
                done = self._optimistic(connection, call, flow)
                if done is not None:
                    return done
            with self._own.transaction(connection):
                self._run(connection, self._lock_timeout, call.what)
                done = self._run(connection, partial(flow, locked=True), call.what)
                reached(Point.ADVANCE_BEFORE_COMMIT)
            reached(Point.ADVANCE_AFTER_COMMIT)
            return done

    def _optimistic(
        self,
        connection: psycopg.Connection[Any],
        call: advancing.Call,
        flow: Callable[..., Coroutine[Ask[Any], Any, T]],
    ) -> T | None:
        """In autocommit, without a lock. None: the guard missed, or it takes the lock; nothing was written."""
        try:
            done = self._run(connection, partial(flow, locked=False), call.what)
        except Alone:
            return None
        except advancing.Conflict:
            call.tried_at = None  # there is nothing to look for
            self._heat(call)
            return None
        reached(Point.ADVANCE_AFTER_COMMIT)
        return done

    def _answered(self, answer: advancing_many.Answer) -> Snapshot[Any] | Refused | NotFound:
        """What became of one of many, done alone where the group could not."""
        if answer.snapshot is not None:
            return answer.snapshot
        if isinstance(answer.refusal, Refused | NotFound):
            return answer.refusal
        try:
            return self._decide_own(answer.call, partial(advancing.advance, answer.call))
        except (Refused, NotFound) as refusal:
            return refusal

    def _once(
        self,
        what: str,
        flow: Callable[[], Coroutine[Ask[Any], Any, T]],
        session: joined.SyncTransaction | None = None,
        *,
        opening: Callable[[], Coroutine[Ask[Any], Any, str | None]] | None = None,
    ) -> T:
        """Run a flow that may be run again: on the caller's connection, or on our own with retries.

        opening: what comes first in a transaction of its own; None: there is none, and each statement is by itself. If it tells the
        transaction's id, one whose COMMIT was done and not answered is not run again: its answer is known.
        """
        if session is not None:
            return self._run(joined.connection(session), flow, what)
        sent: tuple[str, T] | None = None
        for attempt in Retrying(**self._policy()):
            with attempt, self._own.connected(what) as connection:
                if opening is None:
                    return self._run(connection, flow, what)
                if sent is not None and self._run(connection, partial(self._committed, sent[0]), what):
                    return sent[1]
                sent = None
                with self._own.transaction(connection):
                    xid = self._run(connection, opening, what)
                    answer = self._run(connection, flow, what)
                    sent = None if xid is None else (xid, answer)
                return answer
        raise AssertionError  # pragma: no cover - Retrying returns or raises

    def _run(
        self, connection: psycopg.Connection[Any], flow: Callable[[], Coroutine[Ask[Any], Any, T]], what: str
    ) -> T:
        with self._told(what):
            return run(connection, self.schema, flow(), self._cipher)
