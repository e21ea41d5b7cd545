"""The Celery app that `celery -A workers worker` finds."""

from __future__ import annotations

import os
from typing import Any, cast

from celery import Celery

from workers.settings import celeryconfig
from workers.task import install

SAFE: dict[str, Any] = {
    # The row's lease does what the broker's acknowledgement would, at a third of the cost.
    "broker_transport_options": {
        "ack_emulation": False,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    "task_acks_late": False,
    "task_ignore_result": True,
    "task_store_errors_even_if_ignored": False,
    "result_backend": None,
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "task_default_queue": "default",
    "task_create_missing_queues": True,
    "task_publish_retry": False,
    "task_remote_tracebacks": False,
    "worker_prefetch_multiplier": 1,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_hijack_root_logger": True,
}
"""What the protocol counts on. A user's `celeryconfig.py` is laid over it."""


def create_app() -> Celery:
    """The app: safe settings, then `celeryconfig.py`, then BROKER_URL; with the one task installed."""
    app = Celery("fsm")
    app.conf.update(SAFE)
    given = dict(celeryconfig())
    own = cast("dict[str, object]", given.pop("broker_transport_options", {}))
    options = {**SAFE["broker_transport_options"], **own}
    app.conf.update(given, broker_transport_options=options)
    if broker := os.environ.get("BROKER_URL"):
        app.conf.broker_url = broker
    install(app)
    return app


app = create_app()
