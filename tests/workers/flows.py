"""Durable steps for real workers: one that waits for a gate, one that gathers."""

import os
from dataclasses import dataclass
from pathlib import Path

from fsm_core import Spawn
from fsm_core.steps import Done, Gather, Next, StepContext, Steps, Stop
from tests.waiting import eventually
from tests.workers.jobs import note


@dataclass(frozen=True)
class Work:
    name: str = ""
    parts: int = 0


slow = Steps("slow", state=Work)


@slow.step
def held(state: Work, ctx: StepContext) -> Next[Work]:
    """Goes on when its gate is open."""
    note(f"held {ctx.attempt} {ctx.idempotency_key}")
    gate = Path(f"{os.environ['JOBS_FILE']}.{state.name}")
    eventually(gate.exists, timeout=60, what=f"gate {state.name}")
    return Next(over, Work(f"tried {ctx.attempt}"))


@slow.step
def over(state: Work) -> Done:
    return Done({"was": state.name})


@slow.on_error
def asked(reason: Exception, state: Work) -> Stop:
    note("asked")
    return Stop(str(reason))


part = Steps("part", state=Work, queue="parts")


@part.step
def work(state: Work) -> Done:
    return Done({"n": state.parts})


whole = Steps("whole", state=Work, queue="wholes", children=part)


@whole.step
def fan_out(state: Work) -> Gather[Work]:
    return Gather([Spawn(part, None, Next(work, Work(parts=n))) for n in range(state.parts)], state, fan_in)


@whole.step
def fan_in(state: Work, ctx: StepContext) -> Done:
    return Done({"sum": sum(child.result["n"] for child in ctx.children)})
