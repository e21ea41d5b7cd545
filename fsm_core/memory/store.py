"""The store in memory: the verbs of the Postgres store, and `drain`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, TypeVar
from uuid import uuid4

from fsm_core.errors import DefinitionError, NotFound, Refused, UnsupportedConnection
from fsm_core.inputs import check, checked_place, checked_ttl
from fsm_core.memory.deciding import Call, Place
from fsm_core.memory.drain import Drain, Drained
from fsm_core.memory.operating import Operating
from fsm_core.types import Key, key_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from fsm_core.machine import Machine
    from fsm_core.payload import Limits
    from fsm_core.records import Receipt, Snapshot
    from fsm_core.registry import AnyEffects, AnyMachine

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")

MOST = 10_000


class MemoryStore(Operating):
    """Machines in memory: the verbs of `PostgresStore` (but `explain`) with the same answers and refusals, and `drain`. Thread-safe.

    entries: the effects that `drain` runs, and machines that calls do not name. clock: what time it is (None: a `Clock`
    that begins now and stands still). limits: of payloads, and of what one machine takes.

    A machine's id is derived from its name and key, so that what `ctx.random` draws and the idempotency keys are the same
    in every run: nothing for a service that remembers keys between runs.
    Raises DuplicateMachine, DefinitionError.
    """

    @property
    def projected(self) -> list[object]:
        """The statements that projections gave, in order: no database is here to run them, a test may look at them."""
        return self._tables.projected

    def reopen(self, *entries: AnyMachine | AnyEffects, limits: Limits | None = None) -> Self:
        """Another store on the same rows and clock, as a process that starts later has it: other code, other effects."""
        return type(self)(*entries, limits=limits, _tables=self._tables)

    def start(
        self,
        machine: Machine[S, E, A],
        key: Key | None = None,
        state: S | None = None,
        *,
        partition_key: str | None = None,
        priority: int | None = None,
        at: datetime | None = None,
        session: object = None,
    ) -> Snapshot[S]:
        """As `PostgresStore.start`. Raises UnsupportedConnection if a `session` is given: there is nothing to join."""
        _no_session(session)
        self.registry.add(machine)
        name = str(uuid4()) if key is None else key_text(key)
        chosen = machine.initial if state is None else state
        if chosen is None:
            raise DefinitionError(f"machine {machine.name!r} has no initial=; start it with a state")
        machine.state_name(chosen)
        checked_place(partition_key, priority, at)
        with self._tables.lock:
            return self._deciding.start(machine, name, chosen, Place(partition_key, priority, at))

    def advance(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        expected_seq: int | None = None,
        session: object = None,
    ) -> Snapshot[S]:
        """As `PostgresStore.advance`. Raises UnsupportedConnection if a `session` is given: there is nothing to join."""
        _no_session(session)
        self.registry.add(machine)
        check(machine, event, dedup_key)
        with self._tables.lock:
            call = Call(machine, key_text(key), event, dedup_key, expected_seq)
            return self._deciding.advance(self._row(machine.name, call.key), call)

    def advance_many(
        self, machine: Machine[S, E, A], events: Sequence[tuple[Key, E]], *, session: object = None
    ) -> list[Snapshot[S] | Refused | NotFound]:
        """As `PostgresStore.advance_many`."""
        _no_session(session)
        self.registry.add(machine)
        for key, event in events:
            check(machine, event, None)
            key_text(key)
        answers: list[Snapshot[S] | Refused | NotFound] = []
        for key, event in events:
            try:
                answers.append(self.advance(machine, key, event))
            except (Refused, NotFound) as refusal:
                answers.append(refusal)
        return answers

    def signal(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        ttl: timedelta | None = None,
        session: object = None,
    ) -> Receipt:
        """As `PostgresStore.signal`."""
        _no_session(session)
        self.registry.add(machine)
        check(machine, event, dedup_key)
        checked_ttl(ttl)
        with self._tables.lock:
            call = Call(machine, key_text(key), event, dedup_key, wait=True, ttl=ttl)
            return self._deciding.signal(call)

    def signal_or_start(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        state: S | None = None,
        *,
        dedup_key: str | None = None,
        session: object = None,
    ) -> Receipt:
        """As `PostgresStore.signal_or_start`."""
        with self._tables.lock, self._tables.all_or_nothing():
            self.start(machine, key, state, session=session)
            return self.signal(machine, key, event, dedup_key=dedup_key)

    def drain(self, *, limit: int = MOST, jump: bool = False) -> Drained:
        """Run what is due in the calling thread, and what that causes, until nothing is: the most urgent first.

        limit: of actions to take. jump: where nothing is due, the clock goes on to the next due time (retries, timers)
        instead of returning. Effects are judged, retried and asked by their probe as a worker does it; their timeouts count
        on the store's clock, those of async ones in real seconds too. What is no Exception (KeyboardInterrupt, or one of
        the test's own) comes through, as the death of a worker: the next drain finds the action in doubt.
        Raises RuntimeError in a thread that runs an event loop: await `AsyncMemoryStore.drain` there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return Drain(self._tables, self.registry).run(limit, jump=jump)
        raise RuntimeError("drain() would block the event loop; await AsyncMemoryStore(store).drain()")


def _no_session(session: object) -> None:
    if session is not None:
        raise UnsupportedConnection("a MemoryStore is in no database; it takes no session")
