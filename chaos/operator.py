"""An operator with a heavy hand: retries what has failed, cancels what runs, and writes down what it did.

    python -m chaos.entry operator

Its journal: `retry` with the action before the call, `retried` or `not retried` after it; `cancel` and `cancelled` likewise.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine

from chaos.flows import flow
from chaos.machines import ALL, leg
from chaos.submitter import HEALED
from chaos.truth import FOLDER, JOURNALS, append, lines
from fsm_core.errors import FsmError, NotFound, Refused, StoreError
from fsm_core.postgres import PostgresStore

if TYPE_CHECKING:
    from fsm_core import ActionId

PAUSE = 0.4
MOST_RETRIES = 3
AT_ONCE = 50
"""How many it retries between two pauses: more than a long run makes, else it is the operator whom the end of a run waits for."""

OPEN = ("blocked", "pending", "published", "running")
NAME = "operator"


class Operator:
    """One of them."""

    def __init__(self, url: str, folder: Path) -> None:
        self._store = PostgresStore(create_engine(url, pool_size=1), machines=ALL)
        self._folder = folder
        self._journal = folder / f"{JOURNALS}{NAME}"
        self._random = random.Random()
        self._retries: dict[str, int] = {}
        for kind, *rest in lines(self._journal):
            if kind == "retry":
                self._retries[rest[0]] = self._retries.get(rest[0], 0) + 1

    def run(self) -> None:
        """Until all faults are over and nothing is left that it may retry."""
        while True:
            over = (self._folder / HEALED).exists()
            try:
                busy = self._retry()
                if not over:
                    self._cancel()
            except StoreError:
                busy = True
            if over and not busy:
                return
            time.sleep(PAUSE)

    def _retry(self) -> bool:
        """Whether there was anything to retry, or may be."""
        failed = self._store.actions(status="failed", action="Doomed", limit=5000)
        left = [each.id for each in failed if self._retries.get(str(each.id), 0) < MOST_RETRIES][:AT_ONCE]
        for id_ in left:
            self._retries[str(id_)] = self._retries.get(str(id_), 0) + 1
            self._say("retry", id_)
            try:
                self._store.retry([id_])
            except (Refused, NotFound) as error:
                self._say("not retried", id_, type(error).__name__)
            else:
                self._say("retried", id_)
        return bool(left) or any(self._store.actions(status=each, action="Doomed", limit=1) for each in OPEN)

    def _cancel(self) -> None:
        """Now and then one running action, or a whole machine."""
        draw = self._random.random()
        if draw < 0.3:
            running = self._store.actions(
                status="running", action=self._random.choice(["Slow", "Asked"]), limit=3
            )
            for each in running[:1]:
                self._cancelled(each.id)
        elif draw < 0.4:
            name = self._random.choice([leg.name, flow.name])
            live = self._store.machines(name, status="live", limit=3)
            for record in live[:1]:
                self._say("cancel", name, record.key)
                try:
                    self._store.cancel(name, record.key)
                    self._say("cancelled", name, record.key)
                except FsmError as error:
                    self._say("not cancelled", record.key, type(error).__name__)

    def _cancelled(self, id_: ActionId) -> None:
        self._say("cancel", id_)
        try:
            self._store.cancel_action(id_)
            self._say("cancelled", id_)
        except FsmError as error:
            self._say("not cancelled", id_, type(error).__name__)

    def _say(self, *fields: object) -> None:
        append(self._journal, *fields)


def main(_arguments: list[str]) -> int:
    """Run it to its end. Returns 0."""
    Operator(os.environ["DATABASE_URL"], Path(os.environ[FOLDER])).run()
    return 0
