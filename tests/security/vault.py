"""Machines that carry a secret through every place where one may be kept, for real workers."""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tenacity import wait_fixed

from fsm_core import (
    After,
    Attempt,
    CancelChildren,
    ChildEnded,
    Effects,
    Failed,
    Machine,
    Permanent,
    Rejected,
    Retry,
    Send,
    Spawn,
    To,
    Untracked,
)
from fsm_core.steps import Await, Done, Gather, Next, StepContext, Steps
from tests.waiting import eventually
from tests.workers.jobs import note

SECRET = "canary4711"


@dataclass(frozen=True)
class Kept:
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Locked:
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Put:
    """`kind` says what becomes of it."""

    kind: str
    secret: str


@dataclass(frozen=True)
class Heard:
    secret: str


@dataclass(frozen=True)
class Whisper:
    """Held until the vault is locked, and refused then."""

    secret: str


@dataclass(frozen=True)
class Lock:
    secret: str


@dataclass(frozen=True)
class Store:
    kind: str
    secret: str


@dataclass(frozen=True)
class Tell:
    secret: str


@dataclass(frozen=True)
class Box:
    secret: str


@dataclass(frozen=True)
class Opened:
    secret: str


child = Machine("box", states=Box | Opened, events=Heard, initial=Box(""), final=Opened)


@child.on
def open_box(state: Box, event: Heard) -> Opened:
    return Opened(f"{state.secret} {event.secret}")


vault = Machine(
    "vault",
    states=Kept | Locked,
    events=Put | Heard | Whisper | Lock | Failed[Store] | ChildEnded[Opened] | Failed[Spawn],
    actions=Store | Untracked[Tell],
    initial=Kept(),
    unhandled="defer",
)


@vault.on
def put(state: Kept, event: Put) -> To[Kept, Store | Tell | After[Heard] | Send | Spawn | CancelChildren]:
    """Each kind of action, with the secret in it."""
    secret = event.secret
    made = {
        "tell": lambda: [Tell(secret)],
        "timer": lambda: [After(0.05, Heard(f"{secret} timer"))],
        "alarm": lambda: [After(timedelta(days=1), Heard(f"{secret} alarm"))],
        "send": lambda: [Send(child, "sent", Heard(f"{secret} sent"))],
        "child": lambda: [Spawn(child, "born", Box(secret)), Send(child, "born", Heard(secret))],
        "orphan": lambda: [Spawn(child, "orphan", Box(secret))],
        "cancel": lambda: [CancelChildren()],
    }.get(event.kind, lambda: [Store(event.kind, secret)])()
    return state, made


@vault.on
def heard(state: Kept | Locked, event: Heard) -> Kept | Locked:
    return type(state)((*state.secrets, event.secret))


@vault.on
def lock(state: Kept, event: Lock) -> Locked:
    return Locked((*state.secrets, event.secret))


@vault.on
def whisper(_state: Locked, event: Whisper) -> Locked:
    raise Rejected(f"no: {event.secret}")


@vault.on
def failed(state: Kept, event: Failed[Store]) -> Kept:
    return Kept((*state.secrets, event.error, event.action.secret))


@vault.on
def ended(state: Kept, event: ChildEnded[Opened]) -> Kept:
    return Kept((*state.secrets, event.state.secret))


@vault.on
def lost(state: Kept, event: Failed[Spawn]) -> Kept:
    return Kept((*state.secrets, event.error))


effects = Effects(vault)


@effects.act(retry=Retry(max_attempts=3, wait=wait_fixed(0.02)))
def store(action: Store, attempt: Attempt[None]) -> Heard | None:
    """By its kind: fails once, fails for good, fails at each attempt, waits for its gate, or answers."""
    note(f"store {action.kind} {attempt.number}")
    if action.kind == "once" and attempt.number == 1:
        raise RuntimeError(f"not yet {action.secret}")
    if action.kind == "never":
        raise Permanent(f"never {action.secret}")
    if action.kind == "broken":
        raise RuntimeError(f"broken {action.secret}")
    if action.kind == "late":
        gate = Path(f"{os.environ['JOBS_FILE']}.late")
        eventually(gate.exists, timeout=60, what="gate late")
    return Heard(f"{action.secret} {action.kind}")


@effects.act
def tell(action: Tell) -> None:
    note("tell")


@dataclass(frozen=True)
class Work:
    secret: str = ""


@dataclass(frozen=True)
class Word:
    secret: str


part = Steps("part", state=Work)


@part.step
def work(state: Work) -> Done:
    return Done({"secret": state.secret})


flow = Steps("flow", state=Work, signals=Word, children=part)


@flow.step
def begin(state: Work) -> Await[Work]:
    return Await(Word, state, then=spread)


@flow.step
def spread(state: Work, ctx: StepContext) -> Gather[Work]:
    word = ctx.signal(Word)
    secrets = [state.secret] if word is None else [state.secret, word.secret]
    return Gather([Spawn(part, None, Next(work, Work(each))) for each in secrets], state, end)


@flow.step
def end(state: Work, ctx: StepContext) -> Done:
    return Done({"secrets": [each.result["secret"] for each in ctx.children]})
