"""The one Celery task: "these actions may be started, here is the ticket"."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from fsm_core.types import ActionId
from workers.app import TASK
from workers.node import Node

if TYPE_CHECKING:
    from celery import Celery, Task

    from workers.settings import Settings

log = logging.getLogger(__name__)


def install(app: Celery, settings: Settings | None = None) -> Node:
    """Put the one task into `app`, so that its workers run actions; returns the node that they become.

    settings: where the database is and which machines to load (None: from the environment and the app's own `fsm_*`
    configuration, read when the first worker starts). A process that only publishes or serves web pages needs no call.
    """
    node = Node(app, settings)

    def run(task: Task, ticket: object = None, ids: object = None) -> None:
        parsed = _parsed(ticket, ids)
        if parsed is None:
            log.warning("a message that is none of ours was dropped")
        else:
            node.handle(*parsed, queue=_queue(task))

    app.task(
        bind=True, name=TASK, ignore_result=True, acks_late=False, track_started=False, typing=False,
        shared=False, Strategy="workers.forged:strategy",
    )(run)  # fmt: skip
    node.listen()
    return node


def _parsed(ticket: object, ids: object) -> tuple[UUID, list[ActionId]] | None:
    """What a message says, or None. Anybody who reaches the broker can write one: it is no authority, only a hint."""
    try:
        if not isinstance(ids, Sequence) or isinstance(ids, str):
            return None
        return UUID(str(ticket)), [ActionId.parse(str(i)) for i in ids]
    except (ValueError, TypeError):
        return None


def _queue(task: Task) -> str | None:
    """The queue that the message came from: by the anonymous exchange, its routing key. None: it came without a broker."""
    found = (task.request.delivery_info or {}).get("routing_key")
    return found if isinstance(found, str) else None
