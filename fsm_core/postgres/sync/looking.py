"""Looking, synchronously: nothing is locked, nothing is written."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fsm_core.delivery.waiters import Deadline, Span
from fsm_core.inputs import checked_limit, checked_names, name_of, names_of
from fsm_core.postgres.flows import audit, look
from fsm_core.postgres.flows import explain as explaining
from fsm_core.postgres.sync.doing import Doing
from fsm_core.postgres.waiting import Listener
from fsm_core.types import ActionId, Decision, Key, key_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from uuid import UUID

    from fsm_core.audit import Diff, Log, Orphan
    from fsm_core.explain import Facts
    from fsm_core.machine import Machine
    from fsm_core.records import ActionRecord, HistoryEntry, MachineRecord, Snapshot
    from fsm_core.registry import AnyMachine

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")
T = TypeVar("T")


class Looking(Doing):
    """The verbs that change nothing."""

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

    def explain(self, machine: AnyMachine | str, key: Key) -> Facts:
        """What is known of a machine that does not move; `fsm_core.explain.explain` says why. Raises MachineNotFound."""
        return self._once("explain", partial(explaining.facts, name_of(machine), key_text(key)))

    def machines(
        self,
        name: AnyMachine | str | None = None,
        *,
        status: str | None = None,
        state: str | None = None,
        limit: int = 100,
    ) -> list[MachineRecord]:
        """Machines by name, status and name of state; the last changed first, at most `limit`."""
        called = None if name is None else name_of(name)
        checked_names(status=status, state=state)
        checked_limit(limit)
        return self._once("machines", partial(look.machines, called, status, state, limit))

    def actions(
        self,
        *,
        status: str | None = None,
        machine: AnyMachine | str | None = None,
        key: Key | None = None,
        action: str | None = None,
        queue: str | None = None,
        limit: int = 100,
    ) -> list[ActionRecord]:
        """Actions by status, machine, key, name and queue; the oldest first, at most `limit`."""
        checked_names(status=status, action=action, queue=queue)
        checked_limit(limit)
        name = None if machine is None else name_of(machine)
        text = None if key is None else key_text(key)
        flow = partial(
            look.actions, status=status, name=name, key=text, action=action, queue=queue, limit=limit
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
        self,
        names: Sequence[AnyMachine | str] | None = None,
        *,
        since: timedelta | None = None,
        after: UUID | None = None,
    ) -> list[Log]:
        """The records of the next machines by id, a page of them, each of one moment; none: that was all.

        names: of these machines only. since: only those changed in that time. after: the id of the last one that is known.
        """
        flow = partial(audit.logs, names_of(names), since, after)
        return self._once("logs", flow, opening=audit.one_snapshot)

    def count(
        self, names: Sequence[AnyMachine | str] | None = None, *, since: timedelta | None = None
    ) -> int:
        """How many machines `logs` goes through."""
        return self._once("count", partial(audit.count, names_of(names), since))

    def orphans(self, after: UUID | None = None, to: UUID | None = None) -> list[Orphan]:
        """Rows that name a machine which does not exist, of ids after `after` and up to `to`."""
        return self._once("orphans", partial(audit.orphans, after, to), opening=audit.one_snapshot)
