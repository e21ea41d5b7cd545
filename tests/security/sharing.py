"""A module of machines that brings a shared task along, as modules of frameworks do."""

import os
from pathlib import Path

from celery import shared_task

from tests.workers.jobs import effects

__all__ = ["effects"]


@shared_task(name="somebody.elses")
def make(_ticket: object, _ids: object) -> None:
    Path(os.environ["CANARY"]).touch()
