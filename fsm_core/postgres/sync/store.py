"""The synchronous store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fsm_core.inputs import checked_place
from fsm_core.postgres import joined
from fsm_core.postgres.flows import advance as advancing
from fsm_core.postgres.flows import many as advancing_many
from fsm_core.postgres.flows import signal as signalling
from fsm_core.postgres.flows import start as starting
from fsm_core.postgres.flows.alone import Alone
from fsm_core.postgres.sync.operating import Operating

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from fsm_core.errors import NotFound, Refused
    from fsm_core.machine import Machine
    from fsm_core.records import Receipt, Snapshot
    from fsm_core.types import Key

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")
T = TypeVar("T")


class PostgresStore(Operating):
    """Machines in PostgreSQL, on the application's own SQLAlchemy engine.

    engine: must end at psycopg 3. machines: those whose rows this process decides on besides those it names in calls,
    such as older versions. schema: where the tables are. limits: of payloads, and of what one
    machine takes. lock_timeout: how long an own transaction waits for a machine's row before it raises Busy. cipher: encrypts
    payloads at rest (docs/encryption.md).

    Every verb raises DatabaseUnavailable, PoolExhausted or another StoreError if the database does; then nothing
    changed, unless a connection broke in COMMIT within the caller's own transaction.
    """

    def start(
        self,
        machine: Machine[S, E, A],
        key: Key | None = None,
        state: S | None = None,
        *,
        partition_key: str | None = None,
        priority: int | None = None,
        at: datetime | None = None,
        session: joined.SyncTransaction | None = None,
    ) -> Snapshot[S]:
        """Start a machine: its row, its birth in the log and the actions of `enter`, in one transaction.

        key: its name (None: a random UUID). state: the initial state (None: the machine's `initial`). partition_key: at most
        one action of all machines with it is admitted at a time, in order. priority: of its actions, 0 (first) to 9. Both
        where its `route` says nothing else. at: when its actions and timers begin (aware). session: the caller's
        transaction. Idempotent by key: if it is there already, nothing changes and `duplicate` is True.
        Raises DefinitionError (no initial state), UnknownType, InvalidPayload, InvalidKey, Rejected (by `enter`), ChildExists.
        """
        name = self._started(machine, key)
        wait = self._lock_wait if session is None else None
        checked_place(partition_key, priority, at)
        place = (partition_key, priority, at)
        call = starting.Birth(self.registry, machine, name, state, self._limits, wait, *place)
        if session is not None:
            return self._once(call.what, partial(starting.start, call, locked=True, own=False), session)
        try:
            return self._once(call.what, partial(starting.start, call, locked=False))
        except Alone:
            flow = partial(starting.start, call, locked=True)
            return self._once(call.what, flow, opening=self._begun)

    def advance(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        expected_seq: int | None = None,
        session: joined.SyncTransaction | None = None,
    ) -> Snapshot[S]:
        """Apply `event`: the new state, the event and its actions are committed together, or nothing is.

        dedup_key: a repeated one changes nothing and answers `duplicate=True` with the first call's seq.
        expected_seq: refuse unless the machine is at this seq. session: the caller's transaction: a Session, a
        SQLAlchemy Connection or a psycopg Connection; both commit, or neither.

        Returns the machine right after this event, not after what its actions will cause.
        Raises MachineNotFound, UnknownType, InvalidPayload, Rejected, UnhandledEvent, MachineEnded, WrongSeq,
        DedupMismatch, InboxFull, and with `session` SerializationConflict and Deadlock; then nothing changed.
        """
        call = self._call(machine, key, event, dedup_key, expected_seq)
        if session is not None:
            connection = joined.connection(session)
            return self._run(connection, partial(advancing.advance, call, locked=True, own=False), call.what)
        return self._advance(call)

    def advance_many(
        self,
        machine: Machine[S, E, A],
        events: Sequence[tuple[Key, E]],
        *,
        session: joined.SyncTransaction | None = None,
    ) -> list[Snapshot[S] | Refused | NotFound]:
        """Apply many events, each on its own footing, in a few statements; a machine's own keep their order.

        events: pairs of key and event. Returns for each, in the order given, the machine right after it, or why it was refused:
        a Refused or NotFound, not raised. With `session` all of them are committed or none: the first refusal is raised.
        Raises StoreError, and a bug of a transition; then any part may be committed: what is in the log tells.
        """
        calls = [self._call(machine, key, event, None) for key, event in events]
        if not calls:
            return []
        if session is not None:
            flow = partial(advancing_many.many_joined, calls)
            return list(self._run(joined.connection(session), flow, f"advance {len(calls)} machines"))
        return [self._answered(answer) for answer in self._group(calls)]

    def signal(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        *,
        dedup_key: str | None = None,
        ttl: timedelta | None = None,
        session: joined.SyncTransaction | None = None,
    ) -> Receipt:
        """An `advance` that is never too early: the event waits in the inbox until an edge takes it, also before the birth.

        dedup_key: remembered after the event was taken, too. ttl: how long it waits at most; None: for a machine that
        exists for ever, for one that does not seven days. session: the caller's transaction.
        Raises what `advance` raises, but neither MachineNotFound nor UnhandledEvent; MachineEnded by a machine that has
        ended, however it did.
        """
        call = self._signal(machine, key, event, dedup_key, ttl)
        if session is not None:
            connection = joined.connection(session)
            return self._run(connection, partial(signalling.signal, call, locked=True, own=False), call.what)
        return self._decide_own(call, partial(signalling.signal, call))

    def signal_or_start(
        self,
        machine: Machine[S, E, A],
        key: Key,
        event: E,
        state: S | None = None,
        *,
        dedup_key: str | None = None,
        session: joined.SyncTransaction | None = None,
    ) -> Receipt:
        """Signal the machine; where there is none, start it in `state` before, in the same transaction.

        Raises what `start` and `signal` raise; then nothing changed.
        """
        name = self._started(machine, key)
        call = self._signal(machine, key, event, dedup_key, None)
        wait = self._lock_wait if session is None else None
        birth = starting.Birth(self.registry, machine, name, state, self._limits, wait)
        flow = partial(signalling.signal_or_start, call, birth, own=session is None)
        return self._once(call.what, flow, session, opening=None if session else self._begun)
