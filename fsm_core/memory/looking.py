"""Looking, in memory: nothing is written."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from fsm_core import audit
from fsm_core.delivery.waiters import Deadline
from fsm_core.errors import ActionNotFound, MachineNotFound
from fsm_core.inputs import checked_limit, checked_names, name_of, names_of
from fsm_core.memory import logs, views
from fsm_core.memory.clock import Clock
from fsm_core.memory.deciding import Deciding
from fsm_core.memory.tables import ActionRow, MachineRow, Tables
from fsm_core.payload import DEFAULT_LIMITS, Limits
from fsm_core.registry import AnyEffects, AnyMachine, Registry
from fsm_core.types import ActionId, Decision, Key, MachineStatus, key_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from uuid import UUID

    from fsm_core.delivery.waiters import Span
    from fsm_core.machine import Machine
    from fsm_core.records import ActionRecord, HistoryEntry, MachineRecord, Snapshot

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")


class Looking:
    """The verbs that change nothing."""

    def __init__(
        self,
        *entries: AnyMachine | AnyEffects,
        clock: Clock | None = None,
        limits: Limits | None = None,
        _tables: Tables | None = None,
    ) -> None:
        self.registry = Registry(entries)
        self._limits = limits or DEFAULT_LIMITS
        self._tables = _tables or Tables(clock or Clock())
        self.clock = self._tables.clock
        self.waiters = self._tables.waiters
        self._deciding = Deciding(self._tables, self.registry, self._limits)
        self._tables.judge = self._deciding.judge

    def preview(self, machine: Machine[S, E, A], key: Key, event: E) -> Decision[S, A]:
        """As `PostgresStore.preview`."""
        self.registry.add(machine)
        with self._tables.lock:
            row = self._row(machine.name, key_text(key))
            reader = self.registry.reader(row.fsm, row.version)
            return audit.preview(reader, self._tables.seen(row), event, self._limits)

    def get(self, machine: Machine[S, E, A], key: Key) -> Snapshot[S]:
        """As `PostgresStore.get`."""
        self.registry.add(machine)
        with self._tables.lock:
            return self._deciding.draft(self._row(machine.name, key_text(key))).snapshot

    def wait(self, machine: Machine[S, E, A], key: Key, timeout: Span | None = None) -> Snapshot[S]:
        """As `PostgresStore.wait`; another thread has to end it, by a verb or by `drain`. `timeout` is real time, not the clock's."""
        deadline, over = Deadline(timeout), False
        while not over:
            with self.waiters.waiting(self.get(machine, key).id) as end:
                over = self.get(machine, key).ended_at is not None or deadline.over
                if not over:
                    with suppress(TimeoutError):
                        end.result(deadline.left)
        return deadline.judged(self.get(machine, key))

    def state_at(self, machine: Machine[S, E, A], key: Key, seq: int) -> Snapshot[S]:
        """As `PostgresStore.state_at`."""
        self.registry.add(machine)
        return audit.state_at(self._log(machine, key), seq, self.registry.reader)

    def diff(self, machine: Machine[S, E, A], key: Key, from_seq: int, to_seq: int) -> audit.Diff[S]:
        """As `PostgresStore.diff`."""
        self.registry.add(machine)
        return audit.diff(self._log(machine, key), from_seq, to_seq, self.registry.reader)

    def history(self, machine: AnyMachine | str, key: Key) -> list[HistoryEntry]:
        """As `PostgresStore.history`."""
        with self._tables.lock:
            return views.history(self._tables, self._row(name_of(machine), key_text(key), born=False))

    def record(self, machine: AnyMachine | str, key: Key) -> MachineRecord:
        """As `PostgresStore.record`."""
        with self._tables.lock:
            return views.machine(self._tables, self._row(name_of(machine), key_text(key), born=False))

    def machines(
        self,
        name: AnyMachine | str | None = None,
        *,
        status: str | None = None,
        state: str | None = None,
        limit: int = 100,
    ) -> list[MachineRecord]:
        """As `PostgresStore.machines`."""
        checked_names(status=status, state=state)
        checked_limit(limit)
        asked = (None if name is None else name_of(name), status, state)
        with self._tables.lock:
            rows = [
                r for r in self._tables.machines.values() if _fits(asked, (r.fsm, r.status, r.state_name))
            ]
            rows.sort(key=lambda row: (row.updated_at, row.change), reverse=True)
            return [views.machine(self._tables, row) for row in rows[:limit]]

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
        """As `PostgresStore.actions`."""
        checked_names(status=status, action=action, queue=queue)
        checked_limit(limit)
        name = None if machine is None else name_of(machine)
        asked = (status, name, None if key is None else key_text(key), action, queue)
        with self._tables.lock:
            rows = [
                r
                for r in self._tables.actions.values()
                if _fits(asked, (r.status, r.fsm, r.key, r.name, r.queue))
            ]
            return [views.action(self._tables, row) for row in rows[:limit]]

    def action(self, action_id: ActionId) -> ActionRecord:
        """As `PostgresStore.action`."""
        with self._tables.lock:
            return views.action(self._tables, self._action(action_id))

    def log(self, machine: AnyMachine | str, key: Key) -> audit.Log:
        """As `PostgresStore.log`."""
        with self._tables.lock:
            return logs.log(self._tables, self._row(name_of(machine), key_text(key), born=False))

    def logs(
        self,
        names: Sequence[AnyMachine | str] | None = None,
        *,
        since: timedelta | None = None,
        after: UUID | None = None,
    ) -> list[audit.Log]:
        """As `PostgresStore.logs`; all are one page."""
        with self._tables.lock:
            rows = sorted(self._changed(names_of(names), since), key=lambda row: row.id)
            return [logs.log(self._tables, row) for row in rows if after is None or row.id > after]

    def count(
        self, names: Sequence[AnyMachine | str] | None = None, *, since: timedelta | None = None
    ) -> int:
        """As `PostgresStore.count`."""
        with self._tables.lock:
            return len(self._changed(names_of(names), since))

    def _row(self, name: str, key: str, *, born: bool = True) -> MachineRow:
        """Raises MachineNotFound; with `born` also if only a signal for it has come so far."""
        row = self._tables.find(name, key)
        if row is None or (born and row.status is MachineStatus.UNBORN):
            raise MachineNotFound(name, key)
        return row

    def _log(self, machine: AnyMachine, key: Key) -> audit.Log:
        with self._tables.lock:
            return logs.log(self._tables, self._row(machine.name, key_text(key)))

    def _changed(self, names: Sequence[str] | None, since: timedelta | None) -> list[MachineRow]:
        """The machines of these names, changed in that time."""
        then = None if since is None else self.clock.now() - since
        rows = self._tables.machines.values()
        return [
            r for r in rows if (names is None or r.fsm in names) and (then is None or r.updated_at >= then)
        ]

    def _action(self, wanted: ActionId) -> ActionRow:
        row = self._tables.actions.get(wanted)
        if row is None:
            raise ActionNotFound(str(wanted))
        return row


def _fits(asked: tuple[str | None, ...], found: tuple[str, ...]) -> bool:
    return all(want is None or want == has for want, has in zip(asked, found, strict=True))
