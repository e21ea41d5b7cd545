"""A machine for the workers' tests: its effects do what their plan says and leave a line in a file outside both databases."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tenacity import wait_fixed

from fsm_core import Attempt, Effects, Failed, Machine, NotDone, Permanent, Retry, Route, To, Untracked


@dataclass(frozen=True)
class Waiting:
    done: tuple[str, ...] = ()


@dataclass(frozen=True)
class Broken:
    error: str
    attempts: int


@dataclass(frozen=True)
class Do:
    """Emit one Work for each plan."""

    plans: tuple[str, ...]
    lane: str | None = None
    queue: str | None = None


@dataclass(frozen=True)
class Shout:
    plan: str


@dataclass(frozen=True)
class Did:
    plan: str


@dataclass(frozen=True)
class Trouble:
    """An event whose transition has a bug, until the file named by JOBS_FIXED is there."""


@dataclass(frozen=True)
class Work:
    """plan: steps for the attempts, separated by '|', the last one repeated: see `_step`."""

    plan: str
    lane: str | None = None
    queue: str | None = None


@dataclass(frozen=True)
class Later(Work):
    """The same, run by an async effect."""


@dataclass(frozen=True)
class Asked(Work):
    """The same, with a probe."""


@dataclass(frozen=True)
class Tell:
    plan: str


State = Waiting | Broken
Event = Do | Shout | Did | Trouble | Failed[Work]
Action = Work | Later | Asked | Untracked[Tell]

jobs = Machine("jobs", states=State, events=Event, actions=Action, initial=Waiting())


@jobs.on
def do(state: Waiting, event: Do) -> To[Waiting, Work | Later | Asked]:
    kinds = {"async ": Later, "probed ": Asked}
    made: list[Work | Later | Asked] = []
    for plan in event.plans:
        prefix = next((p for p in kinds if plan.startswith(p)), "")
        made.append(kinds.get(prefix, Work)(plan.removeprefix(prefix), event.lane, event.queue))
    return state, made


@jobs.on
def shout(state: Waiting, event: Shout) -> To[Waiting, Tell]:
    return state, [Tell(event.plan)]


@jobs.on
def did(state: Waiting, event: Did) -> Waiting:
    return Waiting((*state.done, event.plan))


@jobs.on
def trouble(state: Waiting, _event: Trouble) -> Waiting:
    if not Path(os.environ["JOBS_FILE"] + ".fixed").exists():
        raise ZeroDivisionError("a bug in a transition")
    return Waiting((*state.done, "trouble"))


@jobs.on
def failed(_state: Waiting, event: Failed[Work]) -> Broken:
    return Broken(event.error, event.attempts)


@jobs.route
def by_lane(action: Work | Later | Asked) -> Route:
    return Route(queue=action.queue, partition_key=action.lane)


@contextlib.contextmanager
def resources() -> Iterator[str]:
    note("resources entered")
    yield f"resources of {os.getpid()}"
    note("resources left")


effects = Effects(jobs, resources=resources)
RETRY = Retry(max_attempts=4, wait=wait_fixed(timedelta(milliseconds=50)))


def note(line: str) -> None:
    """One line of ground truth: what, which process, when."""
    file = os.open(os.environ["JOBS_FILE"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, f"{line}\t{os.getpid()}\t{time.time():.6f}\n".encode())
    os.close(file)


def notes(path: Path | str) -> list[str]:
    """The lines so far, without process and time."""
    file = Path(path)
    return [line.split("\t")[0] for line in file.read_text().splitlines()] if file.exists() else []


def pids(path: Path | str) -> set[int]:
    """The processes that wrote them."""
    return {int(line.split("\t")[1]) for line in Path(path).read_text().splitlines()}


@effects.act(retry=RETRY, timeout=20)
def work(action: Work, attempt: Attempt[str]) -> Did | Trouble | None:
    assert attempt.resources == f"resources of {os.getpid()}"
    return _step(action, attempt.number)


@effects.act(retry=RETRY, timeout=0.3)
async def later(action: Later, attempt: Attempt[str]) -> Did | None:
    note(f"start {action.plan} {attempt.number}")
    if "sleep" in action.plan and attempt.number == 1:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            note(f"cancelled {action.plan}")
            raise
    note(f"end {action.plan} {attempt.number}")
    return Did(action.plan)


@effects.act(retry=RETRY, timeout=0.3)
def asked(action: Asked, attempt: Attempt[str]) -> Did | Trouble | None:
    return _step(action, attempt.number)


@effects.probe
def was_done(action: Asked, attempt: Attempt[str]) -> Did | NotDone:
    note(f"probe {action.plan} {attempt.number}")
    return Did(f"probed {action.plan}") if action.plan.startswith("hang") else NotDone()


@effects.act
def tell(action: Tell) -> None:
    note(f"tell {action.plan}")
    if action.plan == "raise":
        raise RuntimeError("an untracked effect that fails")


def _step(action: Work, number: int) -> Did | Trouble | None:
    steps = action.plan.split("|")
    step, _, argument = steps[min(number, len(steps)) - 1].partition(":")
    note(f"start {action.plan} {number}")
    if step == "raise":
        raise RuntimeError("the effect failed")
    if step == "permanent":
        raise Permanent("no use")
    if step == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if step in ("wait", "hang"):
        # Until somebody says go: a test decides when, not the clock.
        gate = Path(os.environ["JOBS_FILE"] + f".{argument}")
        pause = threading.Event()
        while not gate.exists():
            pause.wait(0.02)
    note(f"end {action.plan} {number}")
    if step == "trouble":
        return Trouble()
    return None if step == "silent" else Did(action.plan)
