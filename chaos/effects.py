"""What the machines' actions do: each leaves the ground truth behind, and fails, kills or hangs as its kind asks."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from tenacity import wait_fixed, wait_random

from chaos.machines import (
    Asked,
    Asks,
    Did,
    Doomed,
    Flaky,
    Go,
    Killer,
    Lane,
    Later,
    Limited,
    Slow,
    Tell,
    Twice,
    Went,
    Work,
    group_of,
    job,
    leg,
    spread,
    twice,
)
from chaos.truth import FOLDER
from chaos.truth import Effects as Noted
from fsm_core import Attempt, Effects, NotDone, Permanent, Retry
from fsm_core.postgres.crash import Point, reached

KILL, FAIL, DO = "kill", "fail", "do"
BUDGET, DOOMED_BUDGET, TWICE_BUDGET = 6, 2, 1000
BUDGETS = {"Doomed": DOOMED_BUDGET, "Twice": TWICE_BUDGET}
"""How often an effect of that name may start; of all others: `BUDGET`."""

MACHINES = "chaos.effects:effects chaos.effects:leg_effects chaos.effects:twice_effects chaos.machines:desk chaos.flows:flow"

effects = Effects(job)
leg_effects = Effects(leg)
twice_effects = Effects(twice)
RETRY = Retry(max_attempts=BUDGET, wait=wait_random(min=0.05, max=0.3))


@effects.act(retry=RETRY, timeout=60)
def work(action: Work, attempt: Attempt[None]) -> Did:
    return _does(action, attempt, 0.0)


@effects.act(retry=RETRY, timeout=60)
def slow(action: Slow, attempt: Attempt[None]) -> Did:
    return _does(action, attempt, 1.0 + spread(action.id, 1000) / 1000)


@effects.act(retry=RETRY, timeout=60)
async def later(action: Later, attempt: Attempt[None]) -> Did:
    with _noted(action, attempt):
        await asyncio.sleep(0.2)
    return Did(action.id, attempt.number)


@effects.act(retry=RETRY, timeout=60)
def flaky(action: Flaky, attempt: Attempt[None]) -> Did:
    with _noted(action, attempt):
        if attempt.number <= 1 + spread(action.id, 2):
            raise ConnectionError("not yet")
    return Did(action.id, attempt.number)


@effects.act(retry=RETRY, timeout=60)
def asked(action: Asked, attempt: Attempt[None]) -> Did:
    with _noted(action, attempt):
        time.sleep(0.3)
        _charge(attempt).touch()
        time.sleep(0.3)
    return Did(action.id, attempt.number)


@effects.probe
def was_charged(action: Asked, attempt: Attempt[None]) -> Did | NotDone:
    return Did(action.id, attempt.number) if _charge(attempt).exists() else NotDone()


@effects.act(retry=RETRY, timeout=60)
def lane(action: Lane, attempt: Attempt[None]) -> Did:
    return _does(action, attempt, 0.05)


@effects.act(retry=RETRY, timeout=60)
def limited(action: Limited, attempt: Attempt[None]) -> Did:
    return _does(action, attempt, 0.1)


@effects.act(retry=Retry(max_attempts=DOOMED_BUDGET, wait=wait_random(min=0.05, max=0.2)), timeout=60)
def doomed(action: Doomed, attempt: Attempt[None]) -> Did:
    with _noted(action, attempt):
        if attempt.number <= DOOMED_BUDGET * (1 + spread(action.id, 2)):
            if spread(action.id, 3) == 0:
                raise Permanent("not before somebody has looked")
            raise ConnectionError("not before somebody has looked")
    return Did(action.id, attempt.number)


@effects.act(retry=RETRY, timeout=60)
def killer(action: Killer, attempt: Attempt[None]) -> Did:
    with _noted(action, attempt):
        if attempt.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return Did(action.id, attempt.number)


@effects.act(timeout=60)
def tell(action: Tell, attempt: Attempt[None]) -> None:
    with _noted(action, attempt):
        return


@leg_effects.act(retry=RETRY, timeout=60)
def go(action: Go, attempt: Attempt[None]) -> Went:
    with _noted(action, attempt):
        time.sleep(0.05)
    return Went(action.id, attempt.number)


@twice_effects.act(retry=Retry(max_attempts=TWICE_BUDGET, wait=wait_fixed(0.3)), timeout=60)
def again(action: Twice, attempt: Attempt[None]) -> Did:
    """Does what the mood of its pair asks for, and until somebody has said that it is over it does not succeed."""
    with _noted(action, attempt):
        mood = mood_of(Path(os.environ[FOLDER])).read_text()
        if mood == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if mood != DO:
            raise ConnectionError("not yet")
    return Did(action.id, attempt.number)


def mood_of(folder: Path) -> Path:
    """Where the rig of `chaos.pairs` says what becomes of the effect of `Twice`: `KILL`, `FAIL` or `DO`."""
    return folder / "mood"


def _noted(action: Asks | Go | Twice, attempt: Attempt[None]) -> Noted:
    group = "" if isinstance(action, Go | Twice) else group_of(action)
    return _Reaching(type(action).__name__, attempt.idempotency_key, attempt.number, group)


class _Reaching(Noted):
    """An effect in which a process can be told to die."""

    def __enter__(self) -> None:
        super().__enter__()
        reached(Point.WORKER_IN_EFFECT)


def _does(action: Asks, attempt: Attempt[None], seconds: float) -> Did:
    with _noted(action, attempt):
        time.sleep(seconds)
    return Did(action.id, attempt.number)


def _charge(attempt: Attempt[None]) -> Path:
    """What the outside world knows of an action, by its idempotency key."""
    return Path(os.environ[FOLDER]) / f"charge.{attempt.idempotency_key}"
