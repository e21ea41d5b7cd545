"""What a message may say. Whoever reaches the broker can write one, and Celery believes a message more than we do.

In a body Celery finds callbacks and chains, which it publishes for whoever wrote them; in the headers time limits that kill a
child, an `eta` for which it keeps the message in memory, names that it logs. And what it does not expect (no `id`, a body
that is no triple) ends the worker, and goes back to the queue for the next one.
"""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any, cast

from celery.exceptions import InvalidTaskError
from celery.worker.strategy import default
from kombu.utils.json import loads

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery, Task
    from celery.worker.consumer import Consumer

MOST_IDS = 1000
"""More than a relay ever puts into a message."""

LONGEST_NAME = 500

log = logging.getLogger(__name__)


def strategy(task: Task, app: Celery, consumer: Consumer, **options: object) -> Callable[..., object]:
    """Celery's way of receiving a message of `task`, for messages that a relay could have written; others are dropped.

    The handler that it returns raises InvalidTaskError, whereupon Celery logs the message and rejects it.
    """
    receive = default(task, app, consumer, **options)

    def received(message: Any, body: object, *rest: object, **more: object) -> object:
        if body is not None:
            raise InvalidTaskError("a message of Celery's first protocol")
        message.headers = cleaned(message.headers, message.payload)
        return receive(message, None, *rest, **more)

    return received


def cleaned(headers: object, payload: object) -> dict[str, object]:
    """The headers, without what makes Celery do more than run the task. Raises InvalidTaskError: it is no message of ours."""
    if not isinstance(payload, list | tuple) or len(payload) != 3:  # noqa: PLR2004 - args, kwargs, embedded
        raise InvalidTaskError("its body is no task")
    args, kwargs, embedded = payload
    if kwargs or not isinstance(args, list | tuple) or len(args) != 2:  # noqa: PLR2004 - ticket, ids
        raise InvalidTaskError("its arguments are not a ticket and ids")
    if not isinstance(args[1], list) or not 0 < len(args[1]) <= MOST_IDS:
        raise InvalidTaskError(f"it does not name 1 to {MOST_IDS} actions")
    if embedded and (not isinstance(embedded, dict) or any(embedded.values())):
        raise InvalidTaskError("it carries callbacks, or a chain")
    given = cast("dict[str, object]", headers) if isinstance(headers, dict) else {}
    task_id = _text(given.get("id"))
    if not task_id:
        raise InvalidTaskError("it has no id")
    named = {name: _text(given.get(name)) for name in ("lang", "shadow", "origin", "argsrepr", "kwargsrepr")}
    return {
        **named,
        "task": given.get("task"),
        "id": task_id,
        "root_id": task_id,
        "ignore_result": True,
        "retries": 0,
    }


def is_message(raw: bytes, *, task: bool = True) -> bool:
    """Whether what lies in a queue of the broker is what a consumer survives: kombu's envelope; if `task`, one of Celery's."""
    try:
        found = loads(raw)
        headers, properties = found["headers"], found["properties"]
        base64.b64decode(found["body"], validate=True)
        info = properties["delivery_info"]
        texts = [
            found["content-type"],
            found["content-encoding"],
            properties["delivery_tag"],
            info["routing_key"],
        ]
        texts += [headers["task"], headers["id"]] if task else []
    except Exception:  # noqa: BLE001 - whatever it is that cannot be read
        return False
    return (
        all(_text(text) is not None for text in texts)
        and isinstance(headers, dict)
        and properties.get("body_encoding") == "base64"
        and headers.get("compression") is None
    )


def _text(value: object) -> str | None:
    """A short line of text, or None: it is logged, and shown by Flower."""
    return value if isinstance(value, str) and len(value) <= LONGEST_NAME and value.isprintable() else None
