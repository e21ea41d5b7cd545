"""Operating, synchronously: repairing, ending, limiting, pruning."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fsm_core.inputs import checked_names, checked_note, name_of
from fsm_core.limits import SECOND, Limit
from fsm_core.postgres.flows import audit, operate
from fsm_core.postgres.flows import limits as limiting
from fsm_core.postgres.flows.prune import Pruning
from fsm_core.postgres.flows.upcast import Upcasting
from fsm_core.postgres.sync.looking import Looking
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


class Operating(Looking):
    """The verbs of an operator."""

    def retry(self, action_ids: Sequence[ActionId]) -> list[ActionId]:
        """Put failed actions back with a fresh budget; a kept outcome is applied, not re-run. Returns those put back.

        With a single id: raises ActionNotFound, WrongStatus, NotRetried; then nothing changed.
        """
        return self._once("retry", partial(operate.retry, action_ids), opening=self._begun)

    def restore(self, machine: Machine[S, E, A], key: Key) -> list[ActionId]:
        """Write again what the outbox has lost, as `@machine.restore` and the log tell; returns those actions.

        They keep the ids that they were emitted with, and their outcome is in doubt: a probe is asked first.
        Raises MachineNotFound, DefinitionError (no `restore` for its state), UnknownMachine, ReplayFailed; nothing changed.
        """
        self.registry.add(machine)
        flow = partial(audit.restore, self.registry, machine.name, key_text(key))
        return self._once(f"restore {machine.name}/{key}", flow, opening=self._begun)

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
        opening = self._lock_timeout if dry_run else self._begun
        for flow in work.flows():
            with work.passing():
                self._once(work.what, flow, opening=opening)
        return work.done

    def cancel(self, machine: AnyMachine | str, key: Key, note: str = "cancelled by hand") -> int:
        """End a machine from outside; its open actions are cancelled. Returns how many. Raises MachineNotFound, MachineEnded."""
        checked_note(note)
        flow = partial(operate.cancel_machine, name_of(machine), key_text(key), note)
        return self._once("cancel", flow, opening=self._begun)

    def cancel_action(self, action_id: ActionId, note: str = "cancelled by hand") -> None:
        """Cancel one action; a late result is recorded, not applied. Raises ActionNotFound, WrongStatus."""
        checked_note(note)
        self._once("cancel", partial(operate.cancel_action, action_id, note), opening=self._begun)

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
        checked_names(limit=name)
        return self._once(f"remove limit {name}", partial(limiting.drop, name), opening=self._begun)

    def prune(self, retention: Retention, *, live: bool = False, dry_run: bool = False) -> Pruned:
        """Delete what is over for longer than it is kept, slice by slice; and held events that have expired. Returns how much.

        live: also cut the logs of machines that live, where a snapshot lets a replay begin. dry_run: count, and delete nothing.
        Several at once share the work. An ended machine with open actions is left alone.
        """
        job = Pruning(retention, live=live, dry_run=dry_run)
        opening = self._lock_timeout if dry_run else self._begun
        while (flow := job.next()) is not None:
            job.done(self._once("prune", flow, opening=opening))
        return job.total
