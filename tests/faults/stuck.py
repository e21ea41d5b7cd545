"""A Celery app whose worker stands still as soon as a message has arrived: its consumer's loop never returns."""

import threading
from typing import Any

from celery import signals

from workers.celery import app

__all__ = ["app"]


@signals.task_received.connect
def stand_still(**_: Any) -> None:
    threading.Event().wait()
