"""Whom a result concerns: mostly the action's own machine; for messages between machines, another one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from fsm_core.delivery.applying import target_of, want
from fsm_core.delivery.outcome import RELEASE_FIRST, RELEASE_MOST, error_json
from fsm_core.delivery.ports import Move
from fsm_core.types import ActionStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from fsm_core.delivery.outcome import Result, Target
    from fsm_core.delivery.ports import Claimed, WorkerStore

PATIENCE = timedelta(days=1)
"""How long a message waits for a machine that is not there yet; then it stands as failed, for an operator."""


class Addressed(NamedTuple):
    """Results with the machine that each concerns; with the move that it amounts to; those that are for all children."""

    machines: list[tuple[Result, UUID]]
    moves: list[tuple[Result, Move]]
    children: list[Result]


def addressed(store: WorkerStore, results: Sequence[Result]) -> Addressed:
    """Find out whom the results concern. Raises StoreError, InvalidPayload."""
    targets = [target_of(result.claimed) for result in results]
    wanted = {
        (t.machine, t.key) for t in targets if t is not None and t.machine is not None and t.key is not None
    }
    found = store.locate(sorted(wanted)) if wanted else {}
    sorted_ = Addressed([], [], [])
    for result, target in zip(results, targets, strict=True):
        if target is not None and target.children:
            sorted_.children.append(result)
            continue
        owner = result.claimed.id.machine_id if target is None else target.id
        whom = owner or found.get(
            (target.machine or "", target.key or "") if target is not None else ("", "")
        )
        if whom is not None:
            sorted_.machines.append((result, whom))
        elif target is not None:
            sorted_.moves.append((result, _waiting(result.claimed, target)))
    return sorted_


def delivered(claimed: Claimed, note: str | None = None) -> Move:
    """The end of a message that changed no machine."""
    return Move(claimed.id, want(claimed), claimed.token, ActionStatus.COMPLETED, note=note)


def _waiting(claimed: Claimed, target: Target) -> Move:
    """Nobody is at the address: wait, the older the longer; after a day it has failed. Judged by the database's times."""
    age = claimed.published_at - claimed.created_at
    what = f"there is no machine {target.machine}/{target.key}"
    if age > PATIENCE:
        return Move(claimed.id, want(claimed), claimed.token, ActionStatus.FAILED, error=error_json(what))
    delay = min(max(age / 2, RELEASE_FIRST), RELEASE_MOST)
    return Move(claimed.id, want(claimed), claimed.token, ActionStatus.PENDING, delay, note=f"{what} yet")
