"""Operating, asynchronously: repairing, ending, limiting, pruning."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fsm_core.inputs import checked_names, checked_note, name_of
from fsm_core.limits import SECOND, Limit
from fsm_core.postgres.aio.looking import AsyncLooking
from fsm_core.postgres.flows import audit, operate
from fsm_core.postgres.flows import limits as limiting
from fsm_core.postgres.flows.prune import Pruning
from fsm_core.postgres.flows.upcast import Upcasting
from fsm_core.types import ActionId, Key, key_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from fsm_core.delivery.retention import Pruned, Retention
    from fsm_core.delivery.upcasting import Upcast
    from fsm_core.machine import Machine
    from fsm_core.registry import AnyMachine

S = TypeVar("S")
E = TypeVar("E")
A = TypeVar("A")
T = TypeVar("T")


class AsyncOperating(AsyncLooking):
    """The verbs of an operator."""

    async def retry(self, action_ids: Sequence[ActionId]) -> list[ActionId]:
        """As `PostgresStore.retry`."""
        return await self._once("retry", partial(operate.retry, action_ids), opening=self._begun)

    async def restore(self, machine: Machine[S, E, A], key: Key) -> list[ActionId]:
        """As `PostgresStore.restore`."""
        self.registry.add(machine)
        flow = partial(audit.restore, self.registry, machine.name, key_text(key))
        return await self._once(f"restore {machine.name}/{key}", flow, opening=self._begun)

    async def upcast(
        self,
        machine: Machine[S, E, A],
        *,
        dry_run: bool = False,
        every: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Upcast:
        """As `PostgresStore.upcast`."""
        self.registry.add(machine)
        work = Upcasting(
            self.registry, machine, self._limits, dry_run=dry_run, every=every, progress=progress
        )
        opening = self._lock_timeout if dry_run else self._begun
        for flow in work.flows():
            with work.passing():
                await self._once(work.what, flow, opening=opening)
        return work.done

    async def cancel(self, machine: AnyMachine | str, key: Key, note: str = "cancelled by hand") -> int:
        """As `PostgresStore.cancel`."""
        checked_note(note)
        flow = partial(operate.cancel_machine, name_of(machine), key_text(key), note)
        return await self._once("cancel", flow, opening=self._begun)

    async def cancel_action(self, action_id: ActionId, note: str = "cancelled by hand") -> None:
        """As `PostgresStore.cancel_action`."""
        checked_note(note)
        await self._once("cancel", partial(operate.cancel_action, action_id, note), opening=self._begun)

    async def limit(
        self,
        name: str,
        *,
        max_running: int | None = None,
        rate: float | None = None,
        per: timedelta = SECOND,
        burst: int | None = None,
    ) -> Limit:
        """As `PostgresStore.limit`."""
        limit = Limit(name, max_running, rate, per, burst)
        await self._once(f"limit {name}", partial(limiting.put, limit))
        return limit

    async def limits(self) -> list[Limit]:
        """As `PostgresStore.limits`."""
        return await self._once("limits", limiting.every)

    async def remove_limit(self, name: str) -> bool:
        """As `PostgresStore.remove_limit`."""
        checked_names(limit=name)
        return await self._once(f"remove limit {name}", partial(limiting.drop, name), opening=self._begun)

    async def prune(self, retention: Retention, *, live: bool = False, dry_run: bool = False) -> Pruned:
        """As `PostgresStore.prune`."""
        job = Pruning(retention, live=live, dry_run=dry_run)
        opening = self._lock_timeout if dry_run else self._begun
        while (flow := job.next()) is not None:
            job.done(await self._once("prune", flow, opening=opening))
        return job.total
