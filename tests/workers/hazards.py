"""A machine whose effects hang, kill, lie and fall silent, as their plan says; what they did is a line in a file."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from tenacity import wait_fixed

from fsm_core import Attempt, Effects, Failed, InDoubt, Machine, NotDone, Retry, To
from tests.workers.jobs import note


@dataclass(frozen=True)
class Calm:
    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plain:
    """Runs on a thread of the worker."""

    plan: str


@dataclass(frozen=True)
class Async(Plain):
    """Runs on the worker's loop."""


@dataclass(frozen=True)
class Alone(Plain):
    """Runs in a process of its own."""


@dataclass(frozen=True)
class AloneAsync(Plain):
    """Runs on the loop of a process of its own."""


@dataclass(frozen=True)
class Patient(Plain):
    """Runs on a thread, and may hang there for longer than a test lasts."""


@dataclass(frozen=True)
class Hermit(Plain):
    """Runs in a process of its own, and may hang there for longer than a test lasts."""


@dataclass(frozen=True)
class Do:
    """Emit an action for each plan, `<kind> <plan>`."""

    plans: tuple[str, ...]


@dataclass(frozen=True)
class Did:
    plan: str
    by: int = 0


Action = Plain | Async | Alone | AloneAsync | Patient | Hermit
KINDS = {kind.__name__: kind for kind in (Plain, Async, Alone, AloneAsync, Patient, Hermit)}

Gone = Failed[Plain] | Failed[Async] | Failed[Alone] | Failed[AloneAsync] | Failed[Patient] | Failed[Hermit]

hazards = Machine(
    "hazards",
    states=Calm,
    events=Do | Did | Gone,
    actions=Action,
    initial=Calm(),
)


@hazards.on
def do(state: Calm, event: Do) -> To[Calm, Action]:
    return state, [KINDS[kind](plan) for kind, plan in (each.split(" ", 1) for each in event.plans)]


@hazards.on
def did(state: Calm, event: Did) -> Calm:
    return replace(state, done=(*state.done, event.plan))


@hazards.on
def failed(state: Calm, event: Gone) -> Calm:
    return replace(state, failed=(*state.failed, f"{event.action.plan}: {event.error} ({event.attempts})"))


@contextlib.contextmanager
def resources() -> Iterator[str]:
    note("entered")
    yield f"of {os.getpid()}"
    note("left")


effects = Effects(hazards, resources=resources)
RETRY = Retry(max_attempts=4, wait=wait_fixed(timedelta(milliseconds=50)))
SHORT, SILENCE = 1.0, 0.3


@effects.act(retry=RETRY, timeout=60, heartbeat_timeout=SILENCE)
def plain(action: Plain, attempt: Attempt[str]) -> list[Did]:
    return run(action, attempt)


@effects.act(retry=RETRY, timeout=60, heartbeat_timeout=SILENCE)
async def on_the_loop(action: Async, attempt: Attempt[str]) -> list[Did]:
    return await run_async(action, attempt)


@effects.act(retry=RETRY, timeout=SHORT, isolated=True)
def alone(action: Alone, attempt: Attempt[str]) -> list[Did]:
    assert attempt.resources == f"of {os.getpid()}"
    return run(action, attempt)


@effects.act(retry=RETRY, timeout=60, heartbeat_timeout=SILENCE, isolated=True)
async def alone_on_a_loop(action: AloneAsync, attempt: Attempt[str]) -> list[Did]:
    return await run_async(action, attempt)


@effects.act(retry=RETRY, timeout=300)
def patient(action: Patient, attempt: Attempt[str]) -> list[Did]:
    return run(action, attempt)


@effects.act(retry=RETRY, timeout=300, isolated=True)
def hermit(action: Hermit, attempt: Attempt[str]) -> list[Did]:
    return run(action, attempt)


@effects.probe
def probe(action: Alone, attempt: Attempt[str]) -> Did | NotDone:
    note(f"probe {action.plan} {attempt.number}")
    if action.plan == "probe dies":
        os._exit(5)
    return Did("probed", os.getpid()) if action.plan == "probed" else NotDone()


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def gate(name: str) -> Path:
    return Path(os.environ["JOBS_FILE"] + f".{name}")


def wait_for(name: str, between: Callable[[], None] = lambda: None) -> None:
    """Until the test says so: it decides when, not the clock."""
    pause = threading.Event()
    while not gate(name).exists():
        between()
        pause.wait(0.01)


def loop_for_ever() -> NoReturn:
    while True:
        pass


def raises(error: BaseException) -> NoReturn:
    raise error


def start_a_grandchild() -> None:
    # Not by subprocess, which closes what it would inherit.
    program = [sys.executable, "-c", "import threading; threading.Event().wait(600)"]
    note(f"grandchild {os.spawnv(os.P_NOWAIT, sys.executable, program)}")


def orphan() -> NoReturn:
    start_a_grandchild()
    os._exit(3)


def hang_with_a_grandchild() -> None:
    start_a_grandchild()
    threading.Event().wait()


DEEDS: dict[str, Callable[[], object]] = {
    "hang": threading.Event().wait,
    "loop": loop_for_ever,
    "exit": lambda: os._exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "unspeakable": lambda: raises(Unspeakable()),
    "system exit": lambda: raises(SystemExit(3)),
    "interrupt": lambda: raises(KeyboardInterrupt()),
    "base": lambda: raises(BaseException("of the base")),
    "grandchild": hang_with_a_grandchild,
    "orphan": orphan,
    "doubt": lambda: raises(InDoubt("sent")),
    "memory": lambda: raises(MemoryError()),
}
ANSWERS: dict[str, list[object]] = {
    "huge": [Did("x" * 50_000_000)],
    "nul": [Did("\0")],
    "unserialisable": [Did({1, 2})],  # type: ignore[arg-type]
    "foreign": [object()],
}


def run(action: Plain, attempt: Attempt[str]) -> list[Did]:
    """Do as the plan says. Plans of an attempt each are separated by `|`, the last one is repeated."""
    steps = action.plan.split("|")
    step = steps[min(attempt.number, len(steps)) - 1]
    note(f"start {action.plan} {attempt.number}")
    if step.startswith("wait "):
        wait_for(step.removeprefix("wait "))
    if step.startswith("beat until "):
        wait_for(step.removeprefix("beat until "), attempt.heartbeat)
        threading.Event().wait()
    if step in DEEDS:
        DEEDS[step]()
    note(f"end {action.plan} {attempt.number}")
    answer: list[Did] = ANSWERS.get(step, [Did(action.plan, os.getpid())])  # type: ignore[assignment]
    return answer


async def run_async(action: Plain, attempt: Attempt[str]) -> list[Did]:
    """The same on a loop: what hangs can be cancelled there."""
    steps = action.plan.split("|")
    step = steps[min(attempt.number, len(steps)) - 1]
    if step.startswith("beat until "):
        name = step.removeprefix("beat until ")
        note(f"start {action.plan} {attempt.number}")
        while not gate(name).exists():
            attempt.heartbeat()
            await asyncio.sleep(0.01)
        step = "hang"
    if step == "hang":
        note(f"hang {action.plan} {attempt.number}")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            note(f"cancelled {action.plan}")
            raise
    if step == "task exits":
        # Somebody looks at how it ends: else asyncio says so when the garbage is collected, which may be in the middle of an
        # `ast.parse` (pytest's), and CPython 3.11 cannot print a traceback then.
        asyncio.get_running_loop().create_task(exits()).add_done_callback(asyncio.Task.exception)
        await asyncio.sleep(0.1)
        return [Did(action.plan)]
    return run(replace(action, plan=step), attempt)


async def exits() -> NoReturn:
    raise SystemExit(4)
