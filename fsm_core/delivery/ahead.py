"""Run-ahead: a worker goes on with the next action of the machine that it has just advanced, without a hop over relay and broker.

The unit that takes an effect's result inserts the next action as `running`, under a claim of the worker that writes it. So that
nobody starts what nobody waits for, the slot that ran the effect waits for its result to be committed, and is asked first.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from fsm_core.delivery.ports import Claimed
from fsm_core.rows import Claim, NewAction
from fsm_core.types import ActionId, ActionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from fsm_core.registry import Registry
    from fsm_core.unit import Unit

MOST_IN_A_ROW = 10
"""After so many the machine queues up again: others wait for the slot, too."""


class Ahead:
    """A slot that would go on with what the result of `claimed` causes.

    worker: whose claim it will be. hold: called with the new claim before it is in the database, drop: when it came to nothing.
    """

    def __init__(
        self,
        claimed: Claimed,
        worker: UUID,
        token: UUID,
        *,
        hold: Callable[[UUID], None] = lambda _: None,
        drop: Callable[[UUID], None] = lambda _: None,
    ) -> None:
        self.claimed = claimed
        self.claim = Claim(token, worker)
        self._hold, self._drop = hold, drop
        self._changed = threading.Condition()
        self._waits = True
        self._reserved = False
        self._next: Claimed | None = None

    def reserve(self) -> bool:
        """Ask the slot to wait until `settle`. Returns False if it has gone already."""
        with self._changed:
            if self._waits and not self._reserved:
                self._reserved = True
                self._hold(self.claim.token)
                return True
            return False

    def settle(self, following: Claimed | None) -> None:
        """Say what the slot goes on with; None: with nothing of this machine. The first word counts."""
        with self._changed:
            if not self._waits:
                return
            self._waits, self._next = False, following
            if self._reserved and following is None:
                self._drop(self.claim.token)
            self._changed.notify_all()

    def wait(self, patience: float) -> Claimed | None:
        """What to go on with. Waits `patience` seconds at most for somebody to ask, and then for as long as the answer takes."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waits or self._reserved, patience)
            if not self._reserved:
                self._waits = False
            self._changed.wait_for(lambda: not self._waits)
            return self._next


def reserved(registry: Registry, unit: Unit, aheads: Sequence[Ahead]) -> dict[Ahead, Claimed]:
    """Claim in `unit` what each slot goes on with: the first action that its own result caused, if it may run inline.

    Not for what has to be admitted, is due later, is not for the same queue, or is a timer or known: those take the usual way.
    """
    found: dict[Ahead, Claimed] = {}
    for ahead in aheads:
        cause = str(ahead.claimed.id)
        caused = {event.seq for event in unit.events if event.cause == cause}
        for position, row in enumerate(unit.actions):
            if row.seq in caused and row.claim is None and _may_run(registry, unit, row, ahead.claimed.queue):
                if ahead.reserve():
                    unit.actions[position] = row._replace(
                        status=ActionStatus.RUNNING.value, claim=ahead.claim
                    )
                    found[ahead] = _claimed(unit, row, ahead.claim)
                break
    return found


def _may_run(registry: Registry, unit: Unit, row: NewAction, queue: str) -> bool:
    if (
        row.status != ActionStatus.PENDING
        or not row.tracked
        or row.delay > timedelta(0)
        or row.queue != queue
    ):
        return False
    if row.lane is not None or row.limit_name is not None or row.timer is not None or row.outcome is not None:
        return False
    effects = registry.effects(unit.seen.machine, row.version)
    effect = None if effects is None else effects.effect(row.name)
    return effect is not None and effect.inline


def _claimed(unit: Unit, row: NewAction, claim: Claim) -> Claimed:
    """As the claim of a message would bring it."""
    now = unit.seen.at
    return Claimed(
        ActionId(unit.seen.id, row.seq, row.idx), claim.token, unit.seen.machine, unit.seen.key, row.version, row.name,
        row.payload, row.tracked, row.queue, attempt=1, budget_from=0, lost=0, in_doubt=False, outcome=None,
        published_at=now, started_at=now, created_at=now,
    )  # fmt: skip
