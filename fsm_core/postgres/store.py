"""The synchronous store."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import Retrying

from fsm_core.delivery.waiters import Deadline, Span
from fsm_core.errors import (
    DatabaseUnavailable,
    Deadlock,
    NotFound,
    Refused,
    SerializationConflict,
    UnsupportedConnection,
)
from fsm_core.inputs import checked_place
from fsm_core.limits import SECOND, Limit
from fsm_core.postgres import joined
from fsm_core.postgres.ask import Ask, run
from fsm_core.postgres.base import Base, name_of
from fsm_core.postgres.flows import advance as advancing
from fsm_core.postgres.flows import audit, look, operate
from fsm_core.postgres.flows import limits as limiting
from fsm_core.postgres.flows import many as advancing_many
from fsm_core.postgres.flows import signal as signalling
from fsm_core.postgres.flows import start as starting
from fsm_core.postgres.flows.alone import Alone
from fsm_core.postgres.flows.prune import Pruning
from fsm_core.postgres.flows.upcast import Upcasting
from fsm_core.postgres.own import Own
from fsm_core.postgres.waiting import Listener
from fsm_core.types import (
    ActionId,
    ActionRecord,
    Decision,
    HistoryEntry,
    Key,
    MachineRecord,
    Snapshot,
    key_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from uuid import UUID

    import psycopg
    from sqlalchemy import Engine

    from fsm_core.audit import Diff, Log, Orphan
    from fsm_core.delivery.retention import Pruned, Retention
    from fsm_core.delivery.upcasting import Upcast
    from fsm_core.machine import Machine
    from fsm_core.payload import Limits
    from fsm_core.records import Receipt
    from fsm_core.registry import AnyEffects, AnyMachine

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")
T = TypeVar("T")

LOCK_TIMEOUT = timedelta(seconds=10)


class PostgresStore(Base):
    """Machines in PostgreSQL, on the application's own SQLAlchemy engine.

    engine: must end at psycopg 3. machines: those whose rows this process decides on besides those it names in calls,
    such as older versions. schema: where the tables are. limits: of payloads. lock_timeout: how long an own
    transaction waits for a machine's row before it raises Busy.

    Every verb raises DatabaseUnavailable, PoolExhausted or another StoreError if the database does; then nothing
    changed, unless a connection broke in COMMIT within the caller's own transaction.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        machines: Iterable[AnyMachine | AnyEffects] = (),
        schema: str = "fsm",
        limits: Limits | None = None,
        lock_timeout: timedelta = LOCK_TIMEOUT,
    ) -> None:
        if engine.dialect.driver != "psycopg" or engine.dialect.is_async:
            raise UnsupportedConnection(
                f"the engine's driver is {engine.dialect.driver}; create it with postgresql+psycopg:// (psycopg 3)"
            )
        super().__init__(
            engine.url, machines=machines, schema=schema, limits=limits, lock_timeout=lock_timeout
        )
        self._engine = engine
        self._own = Own(engine)
        self._listeners: dict[int, Listener] = {}

    # The verbs

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
            return self._once(call.what, flow, opening=self._lock_timeout)

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
        for attempt in Retrying(**self._policy()):
            with attempt:
                return self._decide_own(call, partial(advancing.advance, call))
        raise AssertionError  # pragma: no cover - Retrying returns or raises

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
        Raises StoreError; then any part may be committed: what is in the log tells.
        """
        calls = [self._call(machine, key, event, None) for key, event in events]
        if not calls:
            return []
        if session is not None:
            flow = partial(advancing_many.many_joined, calls)
            return list(self._run(joined.connection(session), flow, f"advance {len(calls)} machines"))
        with self._own.connected(f"advance {len(calls)} machines") as connection:
            try:
                answers = self._run(connection, partial(advancing_many.many, calls), "advance many")
            except (SerializationConflict, Deadlock, DatabaseUnavailable):
                answers = [
                    advancing_many.Answer(call) for call in calls
                ]  # each looks for itself whether it got in
        return [self._answered(answer) for answer in answers]

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
        for attempt in Retrying(**self._policy()):
            with attempt:
                return self._decide_own(call, partial(signalling.signal, call))
        raise AssertionError  # pragma: no cover - Retrying returns or raises

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
        return self._once(call.what, flow, session, opening=None if session else self._lock_timeout)

    def preview(self, machine: Machine[S, E, A], key: Key, event: E) -> Decision[S, A]:
        """What `advance` would decide now: the state after `event`, and the actions in order. Nothing is written or locked.

        An event that would be held does nothing now: the state as it is, no actions. The decision is this event's own, without
        what held events, results and timers make of it.
        Raises what `advance` raises of a decision: MachineNotFound, UnknownType, InvalidPayload, Rejected, UnhandledEvent,
        MachineEnded, InboxFull.
        """
        self.registry.add(machine)
        text = key_text(key)
        flow = partial(audit.dry_run, self.registry, machine.name, text, event, self._limits)
        return self._once(f"preview {machine.name}/{text}", flow)

    def get(self, machine: Machine[S, E, A], key: Key) -> Snapshot[S]:
        """The machine now. Raises MachineNotFound, UnknownMachine (nobody here knows its version), InvalidPayload."""
        self.registry.add(machine)
        text = key_text(key)
        return self._once(f"get {machine.name}/{text}", partial(look.get, self.registry, machine.name, text))

    def wait(self, machine: Machine[S, E, A], key: Key, timeout: Span | None = None) -> Snapshot[S]:
        """The machine when it has ended: done, failed or cancelled. Waits until then, at most `timeout` (a timedelta, or seconds).

        All who wait in a process share one connection beside the engine's pool; nothing polls, unless a pooler (PgBouncer in
        transaction mode) keeps notifications away. There is no `session`: a transaction would wait for what it cannot see.
        Raises what `get` raises, also if the machine is deleted meanwhile, and WaitTimeout with the machine as it is then.
        """
        deadline = Deadline(timeout)
        while (now := self.get(machine, key)).ended_at is None:
            if deadline.over:
                return deadline.judged(now)
            # A connection does not survive a fork: a child that waits has a listener of its own.
            listener = self._listeners.setdefault(os.getpid(), Listener(self._engine, self.schema))
            with self._told(f"wait for {machine.name}/{now.key}"):
                listener.wait(now.id, deadline.left)
        return now

    def state_at(self, machine: Machine[S, E, A], key: Key, seq: int) -> Snapshot[S]:
        """The machine right after event `seq` (0: its birth), replayed from its log or the nearest snapshot.

        Its status is `live` or `done`: an end from outside is no event.
        Raises MachineNotFound, EventNotFound, ReplayFailed (an event does not replay on this code), UnknownMachine.
        """
        self.registry.add(machine)
        flow = partial(audit.at, self.registry, machine.name, key_text(key), seq)
        return self._once(f"state of {machine.name}/{key} at {seq}", flow, opening=audit.one_snapshot)

    def diff(self, machine: Machine[S, E, A], key: Key, from_seq: int, to_seq: int) -> Diff[S]:
        """How the states right after two events differ, and the actions emitted between. Raises as `state_at` does."""
        self.registry.add(machine)
        flow = partial(audit.between, self.registry, machine.name, key_text(key), from_seq, to_seq)
        return self._once(f"diff {machine.name}/{key}", flow, opening=audit.one_snapshot)

    def history(self, machine: AnyMachine | str, key: Key) -> list[HistoryEntry]:
        """The machine's log from its birth, each event with its actions and their attempts. Raises MachineNotFound."""
        return self._once("history", partial(look.history, name_of(machine), key_text(key)))

    def record(self, machine: AnyMachine | str, key: Key) -> MachineRecord:
        """The machine as JSON, whether or not its classes are known here. Raises MachineNotFound."""
        return self._once("record", partial(look.record, name_of(machine), key_text(key)))

    def machines(
        self,
        name: str | None = None,
        *,
        status: str | None = None,
        state: str | None = None,
        limit: int = 100,
    ) -> list[MachineRecord]:
        """Machines by name, status and name of state; the last changed first, at most `limit`."""
        return self._once("machines", partial(look.machines, name, status, state, limit))

    def actions(
        self,
        *,
        status: str | None = None,
        machine: str | None = None,
        key: Key | None = None,
        action: str | None = None,
        queue: str | None = None,
        limit: int = 100,
    ) -> list[ActionRecord]:
        """Actions by status, machine, key, name and queue; the oldest first, at most `limit`."""
        text = None if key is None else key_text(key)
        flow = partial(
            look.actions, status=status, name=machine, key=text, action=action, queue=queue, limit=limit
        )
        return self._once("actions", flow)

    def action(self, action_id: ActionId) -> ActionRecord:
        """One action with its attempts. Raises ActionNotFound."""
        return self._once("action", partial(look.action, action_id))

    def log(self, machine: AnyMachine | str, key: Key) -> Log:
        """Everything that is recorded of a machine, for `fsm_core.audit`. Raises MachineNotFound."""
        return self._once(
            "log", partial(audit.log, name_of(machine), key_text(key)), opening=audit.one_snapshot
        )

    def logs(
        self, names: Sequence[str] | None = None, *, since: timedelta | None = None, after: UUID | None = None
    ) -> list[Log]:
        """The records of the next machines by id, a page of them, each of one moment; none: that was all.

        names: of these machines only. since: only those changed in that time. after: the id of the last one that is known.
        """
        return self._once("logs", partial(audit.logs, names, since, after), opening=audit.one_snapshot)

    def count(self, names: Sequence[str] | None = None, *, since: timedelta | None = None) -> int:
        """How many machines `logs` goes through."""
        return self._once("count", partial(audit.count, names, since))

    def orphans(self, after: UUID | None = None, to: UUID | None = None) -> list[Orphan]:
        """Rows that name a machine which does not exist, of ids after `after` and up to `to`."""
        return self._once("orphans", partial(audit.orphans, after, to))

    def retry(self, action_ids: Sequence[ActionId]) -> list[ActionId]:
        """Put failed actions back with a fresh budget; a kept outcome is applied, not re-run. Returns those put back.

        With a single id: raises ActionNotFound, WrongStatus; then nothing changed.
        """
        return self._once("retry", partial(operate.retry, action_ids), opening=self._lock_timeout)

    def restore(self, machine: Machine[S, E, A], key: Key) -> list[ActionId]:
        """Write again what the outbox has lost, as `@machine.restore` and the log tell; returns those actions.

        They keep the ids that they were emitted with, and their outcome is in doubt: a probe is asked first.
        Raises MachineNotFound, DefinitionError (no `restore` for its state), UnknownMachine, ReplayFailed; nothing changed.
        """
        self.registry.add(machine)
        flow = partial(audit.restore, self.registry, machine.name, key_text(key))
        return self._once(f"restore {machine.name}/{key}", flow, opening=self._lock_timeout)

    def upcast(
        self,
        machine: Machine[S, E, A],
        *,
        dry_run: bool = False,
        every: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Upcast:
        """Write all live machines of that name which an older version wrote in the shape of `machine`; no event is recorded.

        A machine whose own version is registered here finishes on it, and is left alone, unless `every`. One of whose state,
        held events and open actions something cannot be read is left as it was, and stands in the answer. dry_run: only say
        so; nothing is written or locked. progress: is told after each batch how many machines were looked at.

        It may be run at any time and again: what others do meanwhile to a machine goes first.
        """
        self.registry.add(machine)
        work = Upcasting(
            self.registry, machine, self._limits, dry_run=dry_run, every=every, progress=progress
        )
        for flow in work.flows():
            with work.passing():
                self._once(work.what, flow, opening=self._lock_timeout)
        return work.done

    def cancel(self, machine: AnyMachine | str, key: Key, note: str = "cancelled by hand") -> int:
        """End a machine from outside; its open actions are cancelled. Returns how many. Raises MachineNotFound, MachineEnded."""
        flow = partial(operate.cancel_machine, name_of(machine), key_text(key), note)
        return self._once("cancel", flow, opening=self._lock_timeout)

    def cancel_action(self, action_id: ActionId, note: str = "cancelled by hand") -> None:
        """Cancel one action; a late result is recorded, not applied. Raises ActionNotFound, WrongStatus."""
        self._once("cancel", partial(operate.cancel_action, action_id, note), opening=self._lock_timeout)

    def limit(
        self,
        name: str,
        *,
        max_running: int | None = None,
        rate: float | None = None,
        per: timedelta = SECOND,
        burst: int | None = None,
    ) -> Limit:
        """Set a cluster-wide limit, or change it as a whole. Idempotent; relays look at it at once. Returns it.

        name: what a `Route(limit=)` names, each `limit_key` by itself; or `queue:<queue>`, which holds for all of that queue.
        What the others mean: `fsm_core.limits.Limit`. Raises ConfigurationError.
        """
        limit = Limit(name, max_running, rate, per, burst)
        self._once(f"limit {name}", partial(limiting.put, limit))
        return limit

    def limits(self) -> list[Limit]:
        """All limits, by name."""
        return self._once("limits", limiting.every)

    def remove_limit(self, name: str) -> bool:
        """Remove a limit; returns whether it was there. Actions that ask for it are held back until it is set again."""
        return self._once(f"remove limit {name}", partial(limiting.drop, name))

    def prune(self, retention: Retention, *, live: bool = False, dry_run: bool = False) -> Pruned:
        """Delete what is over for longer than it is kept, slice by slice; and held events that have expired. Returns how much.

        live: also cut the logs of machines that live, where a snapshot lets a replay begin. dry_run: count, and delete nothing.
        Several at once share the work. An ended machine with open actions is left alone.
        """
        job = Pruning(retention, live=live, dry_run=dry_run)
        while (flow := job.next()) is not None:
            job.done(self._once("prune", flow, opening=self._lock_timeout))
        return job.total

    # Doing

    def _decide_own(self, call: advancing.Call, flow: Callable[..., Coroutine[Ask[Any], Any, T]]) -> T:
        """In a transaction of our own: optimistic in autocommit, then under the lock. Raises Conflict only if both missed."""
        with self._own.connected(call.what) as connection:
            if call.tried_at is None and not self._is_hot(call):
                try:
                    return self._run(connection, partial(flow, locked=False), call.what)
                except advancing.Conflict:
                    call.tried_at = (
                        None  # the guard missed: nothing was written, there is nothing to look for
                    )
                    self._heat(call)
            with connection.transaction():
                self._run(connection, self._lock_timeout, call.what)
                return self._run(connection, partial(flow, locked=True), call.what)

    def _answered(self, answer: advancing_many.Answer) -> Snapshot[Any] | Refused | NotFound:
        """What became of one of many, done alone where the group could not."""
        if answer.snapshot is not None:
            return answer.snapshot
        if isinstance(answer.refusal, Refused | NotFound):
            return answer.refusal
        try:
            for attempt in Retrying(**self._policy()):
                with attempt:
                    return self._decide_own(answer.call, partial(advancing.advance, answer.call))
        except (Refused, NotFound) as refusal:
            return refusal
        raise AssertionError  # pragma: no cover - Retrying returns or raises

    def _once(
        self,
        what: str,
        flow: Callable[[], Coroutine[Ask[Any], Any, T]],
        session: joined.SyncTransaction | None = None,
        *,
        opening: Callable[[], Coroutine[Ask[Any], Any, None]] | None = None,
    ) -> T:
        """Run a flow that may be run again: on the caller's connection, or on our own with retries.

        opening: what comes first in a transaction of its own; None: there is none, and each statement is by itself.
        """
        if session is not None:
            return self._run(joined.connection(session), flow, what)
        for attempt in Retrying(**self._policy()):
            with attempt, self._own.connected(what) as connection:
                if opening is None:
                    return self._run(connection, flow, what)
                with connection.transaction():
                    self._run(connection, opening, what)
                    return self._run(connection, flow, what)
        raise AssertionError  # pragma: no cover - Retrying returns or raises

    def _run(
        self, connection: psycopg.Connection[Any], flow: Callable[[], Coroutine[Ask[Any], Any, T]], what: str
    ) -> T:
        with self._told(what):
            return run(connection, self.schema, flow())
