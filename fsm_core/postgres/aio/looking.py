"""Looking, asynchronously: nothing is locked, nothing is written."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fsm_core.delivery.waiters import Deadline, Span
from fsm_core.inputs import checked_limit, checked_names, name_of, names_of
from fsm_core.postgres.aio.doing import AsyncDoing
from fsm_core.postgres.flows import audit, look
from fsm_core.postgres.flows import explain as explaining
from fsm_core.postgres.waiting import AsyncListener
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


class AsyncLooking(AsyncDoing):
    """The verbs that change nothing."""

    async def preview(self, machine: Machine[S, E, A], key: Key, event: E) -> Decision[S, A]:
        """As `PostgresStore.preview`."""
        self.registry.add(machine)
        text = key_text(key)
        flow = partial(audit.dry_run, self.registry, machine.name, text, event, self._limits)
        return await self._once(f"preview {machine.name}/{text}", flow)

    async def get(self, machine: Machine[S, E, A], key: Key) -> Snapshot[S]:
        """As `PostgresStore.get`."""
        self.registry.add(machine)
        text = key_text(key)
        return await self._once(
            f"get {machine.name}/{text}", partial(look.get, self.registry, machine.name, text)
        )

    async def wait(
        self,
        machine: Machine[S, E, A],
        key: Key,
        timeout: Span | None = None,  # noqa: ASYNC109 - as the synchronous verb
    ) -> Snapshot[S]:
        """As `PostgresStore.wait`, from a task."""
        deadline, loop = Deadline(timeout), asyncio.get_running_loop()
        while (now := await self.get(machine, key)).ended_at is None:
            if deadline.over:
                return deadline.judged(now)
            listener = self._listeners.setdefault(loop, AsyncListener(self._engine, self.schema))
            with self._told(f"wait for {machine.name}/{now.key}"):
                await listener.wait(now.id, deadline.left)
        return now

    async def state_at(self, machine: Machine[S, E, A], key: Key, seq: int) -> Snapshot[S]:
        """As `PostgresStore.state_at`."""
        self.registry.add(machine)
        flow = partial(audit.at, self.registry, machine.name, key_text(key), seq)
        return await self._once(f"state of {machine.name}/{key} at {seq}", flow, opening=audit.one_snapshot)

    async def diff(self, machine: Machine[S, E, A], key: Key, from_seq: int, to_seq: int) -> Diff[S]:
        """As `PostgresStore.diff`."""
        self.registry.add(machine)
        flow = partial(audit.between, self.registry, machine.name, key_text(key), from_seq, to_seq)
        return await self._once(f"diff {machine.name}/{key}", flow, opening=audit.one_snapshot)

    async def history(self, machine: AnyMachine | str, key: Key) -> list[HistoryEntry]:
        """As `PostgresStore.history`."""
        return await self._once("history", partial(look.history, name_of(machine), key_text(key)))

    async def record(self, machine: AnyMachine | str, key: Key) -> MachineRecord:
        """As `PostgresStore.record`."""
        return await self._once("record", partial(look.record, name_of(machine), key_text(key)))

    async def explain(self, machine: AnyMachine | str, key: Key) -> Facts:
        """As `PostgresStore.explain`."""
        return await self._once("explain", partial(explaining.facts, name_of(machine), key_text(key)))

    async def machines(
        self,
        name: AnyMachine | str | None = None,
        *,
        status: str | None = None,
        state: str | None = None,
        limit: int = 100,
    ) -> list[MachineRecord]:
        """As `PostgresStore.machines`."""
        called = None if name is None else name_of(name)
        checked_names(status=status, state=state)
        checked_limit(limit)
        return await self._once("machines", partial(look.machines, called, status, state, limit))

    async def actions(
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
        text = None if key is None else key_text(key)
        flow = partial(
            look.actions, status=status, name=name, key=text, action=action, queue=queue, limit=limit
        )
        return await self._once("actions", flow)

    async def action(self, action_id: ActionId) -> ActionRecord:
        """As `PostgresStore.action`."""
        return await self._once("action", partial(look.action, action_id))

    async def log(self, machine: AnyMachine | str, key: Key) -> Log:
        """As `PostgresStore.log`."""
        flow = partial(audit.log, name_of(machine), key_text(key))
        return await self._once("log", flow, opening=audit.one_snapshot)

    async def logs(
        self,
        names: Sequence[AnyMachine | str] | None = None,
        *,
        since: timedelta | None = None,
        after: UUID | None = None,
    ) -> list[Log]:
        """As `PostgresStore.logs`."""
        flow = partial(audit.logs, names_of(names), since, after)
        return await self._once("logs", flow, opening=audit.one_snapshot)

    async def count(
        self, names: Sequence[AnyMachine | str] | None = None, *, since: timedelta | None = None
    ) -> int:
        """As `PostgresStore.count`."""
        return await self._once("count", partial(audit.count, names_of(names), since))

    async def orphans(self, after: UUID | None = None, to: UUID | None = None) -> list[Orphan]:
        """As `PostgresStore.orphans`."""
        return await self._once("orphans", partial(audit.orphans, after, to), opening=audit.one_snapshot)
