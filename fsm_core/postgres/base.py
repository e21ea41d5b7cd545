"""What the sync and the async store share: everything but doing."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tenacity import retry_if_exception_type, stop_after_attempt, wait_random_exponential

from fsm_core.errors import DatabaseUnavailable, Deadlock, SerializationConflict, StoreError
from fsm_core.inputs import check, checked_ttl
from fsm_core.payload import DEFAULT_LIMITS, Limits
from fsm_core.postgres.ask import Ask
from fsm_core.postgres.flows.advance import Call, Conflict
from fsm_core.postgres.statements import machines as sql
from fsm_core.postgres.urls import shown
from fsm_core.registry import AnyEffects, AnyMachine, Registry
from fsm_core.types import Key, key_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import timedelta

    from sqlalchemy.engine import URL
    from tenacity.retry import retry_base
    from tenacity.stop import stop_base
    from tenacity.wait import wait_base

    from fsm_core.postgres.sealing import Cipher

HOT_FOR = 1.0
"""Seconds for which a machine that had a conflict is locked at once: optimism costs more than it saves there."""

MOST_HOT = 10_000


class Base:
    """Settings and decisions of a store on PostgreSQL."""

    def __init__(
        self,
        url: URL,
        *,
        machines: Iterable[AnyMachine | AnyEffects],
        schema: str,
        limits: Limits | None,
        lock_timeout: timedelta,
        cipher: Cipher | None,
    ) -> None:
        self.schema = schema
        self.registry = Registry(machines)
        self.where = shown(url)
        self._cipher = cipher
        self._limits = limits or DEFAULT_LIMITS
        self._lock_wait = f"{max(1, int(lock_timeout.total_seconds() * 1000))}ms"
        self._hot: dict[tuple[str, str], float] = {}

    def _call(
        self,
        machine: AnyMachine,
        key: Key,
        event: object,
        dedup_key: str | None,
        expected_seq: int | None = None,
    ) -> Call:
        """A checked call of `advance`. Raises UnknownType (also for those that only the engine makes), InvalidKey."""
        self.registry.add(machine)
        check(machine, event, dedup_key)
        return Call(self.registry, machine, key_text(key), event, self._limits, dedup_key, expected_seq)

    def _signal(
        self, machine: AnyMachine, key: Key, event: object, dedup_key: str | None, ttl: timedelta | None
    ) -> Call:
        """The same for a signal. Raises ConfigurationError: a time to live that is none."""
        checked_ttl(ttl)
        return replace(self._call(machine, key, event, dedup_key), wait=True, ttl=ttl)

    def _started(self, machine: AnyMachine, key: Key | None) -> str:
        self.registry.add(machine)
        return str(uuid4()) if key is None else key_text(key)

    def _is_hot(self, call: Call) -> bool:
        until = self._hot.get((call.machine.name, call.key))
        return until is not None and time.monotonic() < until

    def _heat(self, call: Call) -> None:
        if len(self._hot) > MOST_HOT:
            self._hot.clear()
        self._hot[call.machine.name, call.key] = time.monotonic() + HOT_FOR

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Tell a StoreError what was being done, and where."""
        try:
            yield
        except StoreError as error:
            if error.where is None:
                error.where = self.where
            error.during(what)
            raise

    async def _lock_timeout(self) -> None:
        """A flow: bound the waits of this transaction."""
        await Ask(sql.LOCK_TIMEOUT, {"wait": self._lock_wait}, len)

    async def _begun(self) -> str:
        """A flow: the same for a transaction that writes; its id, by which `_committed` asks for it."""
        xid: str = await Ask(sql.BEGUN, {"wait": self._lock_wait}, lambda rows: rows[0][1])
        return xid

    async def _committed(self, xid: str) -> bool:
        """A flow: whether a transaction whose COMMIT was not answered is committed. Raises DatabaseUnavailable: it goes on yet."""
        status = await Ask(sql.BECAME, {"xid": xid}, lambda rows: rows[0][0])
        if status == "in progress":
            raise DatabaseUnavailable("whether the last COMMIT was done is not known yet")
        return bool(status == "committed")

    @staticmethod
    def _policy() -> dict[str, Any]:
        """How an own transaction is tried again: the decision is pure and nothing ran, so deciding again is safe."""
        retry: retry_base = retry_if_exception_type(
            (SerializationConflict, Deadlock, DatabaseUnavailable, Conflict)
        )
        stop: stop_base = stop_after_attempt(6)
        wait: wait_base = wait_random_exponential(multiplier=0.02, max=1)
        return {"retry": retry, "stop": stop, "wait": wait, "reraise": True}
