"""How a Celery app of ours is configured, whatever it does: a relay only publishes by it, and loads nothing that runs effects."""

from __future__ import annotations

import os
from typing import Any, cast

from celery import Celery, signals

from workers import transport
from workers.hardened import VERIFIED, hardened
from workers.settings import celeryconfig

TASK = "fsm.run"
"""The one task."""

SAFE: dict[str, Any] = {
    # The row's lease does what the broker's acknowledgement would, at a third of the cost.
    "broker_transport_options": {
        "ack_emulation": False,
        "socket_timeout": 10,
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

HARDENED: dict[str, Any] = {
    "worker_enable_remote_control": False,
    "worker_send_task_events": False,
    "task_send_sent_event": False,
    "accept_content": ["json"],
}
"""What FSM_HARDENED=1 insists on, whatever `celeryconfig.py` says: nobody tells a worker anything but by a row. So no Flower."""


def configured() -> Celery:
    """An app with safe settings, then `celeryconfig.py`, then BROKER_URL; without any task."""
    app = Celery("fsm")
    app.conf.update(SAFE)
    given = dict(celeryconfig())
    own = cast("dict[str, object]", given.pop("broker_transport_options", {}))
    options = {**SAFE["broker_transport_options"], **own}
    app.conf.update(given, broker_transport_options=options)
    if broker := os.environ.get("BROKER_URL"):
        app.conf.broker_url = broker
    _guard(app, str(app.conf.broker_url).partition(":")[0])
    return app


def _guard(app: Celery, scheme: str) -> None:
    """What a broker may do to this app: as little as can be."""
    app.conf.broker_transport = app.conf.broker_transport or transport.NAMES.get(scheme)
    if scheme == "rediss" and not isinstance(app.conf.broker_use_ssl, dict):
        app.conf.broker_use_ssl = VERIFIED
    if hardened():
        app.conf.update(HARDENED)
        signals.worker_init.connect(_deaf, weak=False)


def _deaf(sender: Any, **_: object) -> None:
    """What only the command line turns off: gossip and mingle, by which workers hear of each other; and -E."""
    sender.options.update(without_gossip=True, without_mingle=True, without_heartbeat=True)
    sender.task_events = False
