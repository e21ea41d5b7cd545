"""Repairing every disagreement between rows, workers and messages. Runs inside every relay; has no schedule to lose.

Bounded in each pass, and no storms: a row is published again only on evidence that its message is gone, under the same
ticket, and less often each time. A queue that nobody serves is not touched at all.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from fsm_core.delivery.ports import Broker, Message, Overdue, Queue, RelayStore
from fsm_core.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE = timedelta(seconds=5)
"""How long a published row may go unclaimed before anybody asks why."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What one pass found: workers declared dead, rows put back, rows published again."""

    dead: int = 0
    requeued: int = 0
    republished: int = 0


def reconcile(
    store: RelayStore, broker: Broker, queues: Mapping[str, Queue], *, lease: timedelta, may_bury: bool,
    patience: timedelta = PATIENCE,
) -> Repaired:  # fmt: skip
    """One pass. `may_bury`: this relay has been connected for a lease; right after an outage all heartbeats are late.

    Raises StoreError. A broker that is away stops only the publishing again.
    """
    dead = store.mark_dead(lease) if may_bury else 0
    requeued = store.requeue_dead() if may_bury else 0
    late = store.overdue(list(queues), patience) if queues else []
    try:
        depths = {queue: broker.depth(queue) for queue in {row.queue for row in late}}
        gone = [row for row in late if _is_lost(row, queues[row.queue], depths, patience)]
        counted = store.republish(gone) if gone else set()
        again = [row for row in gone if row.id in counted]
        _send(broker, again)
    except BrokerUnavailable:
        return Repaired(dead, requeued)
    return Repaired(dead, requeued, len(again))


def _is_lost(row: Overdue, queue: Queue, depths: Mapping[str, int], patience: timedelta) -> bool:
    """By evidence: the broker's queue is empty, or a worker has claimed what was published well after it."""
    overtaken = queue.claimed_up_to is not None and queue.claimed_up_to > row.published_at + patience
    return depths[row.queue] == 0 or overtaken


def _send(broker: Broker, rows: Sequence[Overdue]) -> None:
    by_queue: dict[str, list[Message]] = defaultdict(list)
    for row in rows:
        by_queue[row.queue].append(Message(row.ticket, (row.id,), f"{row.machine}.{row.action}"))
    for queue, messages in by_queue.items():
        broker.publish(queue, messages)
