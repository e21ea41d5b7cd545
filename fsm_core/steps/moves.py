"""The transitions of a `Steps` machine: from one outcome to the next. Pure, as any machine's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from fsm_core.codec import decode_named, encode
from fsm_core.errors import TransitionError, UnhandledEvent
from fsm_core.join import Join
from fsm_core.payload import dump
from fsm_core.steps.outcomes import Await, Child, Done, Gather, Next, Plan, Received, Replay, Stop, TimedOut
from fsm_core.types import After, Cancel, CancelChildren, ChildEnded, Failed, Spawn

if TYPE_CHECKING:
    from fsm_core.context import Context
    from fsm_core.steps.steps import AnySteps

DEADLINE = "deadline"
"""The timer of an `Await` or a `Gather`."""

Running = Next[Any] | Replay[Any]
Moved = tuple[Any, list[Any]]


def outcome(steps: AnySteps, state: Running, event: Any, ctx: Context) -> Moved:
    """A step has come to an end: what it gave is the next state, with what the engine keeps beside it."""
    after: Any
    if isinstance(event, Next):
        after = Next(event.step, event.state)
    elif isinstance(event, Replay):
        after = replace(
            event, step=state.step, attempt=event.attempt + 1, awaited=state.awaited, timed_out=state.timed_out,
            children=state.children,
        )  # fmt: skip
    elif isinstance(event, Await):
        after = replace(event, step=event.then or state.step, attempt=0, awaited=state.awaited)
    elif isinstance(event, Gather):
        after = gathering(steps, event, ctx)
    else:
        after = event
    # `enter` speaks for a state of another class; for one of the same the transition does.
    return after, run(steps, after) if type(after) is type(state) else []


def run(steps: AnySteps, state: Running) -> list[Any]:
    """The action that runs the step of `state`."""
    action = steps.action_of(state.step)
    delay = state.delay if isinstance(state, Replay) else None
    return [action(state.state, state.awaited, state.attempt, state.timed_out, state.children, delay)]


def lost(_steps: AnySteps, _state: Running, event: Failed[Any], _ctx: Context) -> Moved:
    """Every attempt of the step was lost with its worker, or ran out of time."""
    return Stop(event.error), []


def wait(_steps: AnySteps, state: Await[Any], _ctx: Context) -> list[Any]:
    """On entering an `Await` or a `Gather`: its deadline."""
    return [] if state.timeout is None else [After(state.timeout, TimedOut(), DEADLINE)]


def wake(steps: AnySteps, state: Await[Any], event: object, _ctx: Context) -> Moved:
    """A signal that it waits for: the step runs, and is shown it with those that it was shown before."""
    name = steps.event_name(event)
    if name not in state.signals:
        raise UnhandledEvent(steps.name, Await.__name__, name)
    payload = msgspec.json.decode(encode(event, f"event {name}"))
    return _woken(state, (*state.awaited, Received(name, payload)))


def overdue(_steps: AnySteps, state: Await[Any], _event: TimedOut, _ctx: Context) -> Moved:
    """The wait is over: not a failure, the step decides."""
    return Next(state.step, state.state, 0, state.awaited, timed_out=True), []


def _woken(state: Await[Any], awaited: tuple[Received, ...]) -> Moved:
    timers = [] if state.timeout is None else [Cancel(DEADLINE)]
    return Next(state.step, state.state, 0, awaited), timers


def gathering(steps: AnySteps, event: Gather[Any], ctx: Context) -> Gather[Any] | Next[Any]:
    """Every child gets a key, and the join its names. Without children there is nothing to wait for."""
    plans = tuple(
        plan if plan.key is not None else replace(plan, key=f"{ctx.key}/{ctx.seq}.{n}")
        for n, plan in enumerate(event.children)
    )
    if not plans:
        return Next(event.then, event.state)
    spawns = [Spawn(steps.kin(plan.machine), plan.key) for plan in plans]
    join = Join.of(len(plans) if event.need is None else event.need, spawns)
    return replace(event, children=plans, join=join, heard=())


def bear(steps: AnySteps, state: Gather[Any], _ctx: Context) -> list[Any]:
    """On entering a `Gather`: its children, and its deadline."""
    deadline = [] if state.timeout is None else [After(state.timeout, TimedOut(), DEADLINE)]
    return [*(_spawn(steps, plan) for plan in state.children), *deadline]


def ended(_steps: AnySteps, state: Gather[Any], event: ChildEnded[Any], _ctx: Context) -> Moved:
    """A child has reached its end."""
    name = type(event.state).__name__
    result = msgspec.json.decode(encode(event.state, f"state {name}"))
    failed = isinstance(event.state, Stop)
    if isinstance(event.state, Done):
        result = event.state.result
    return _counted(state, event, Child(event.machine, event.key, name, result, failed))


def unborn(_steps: AnySteps, state: Gather[Any], event: Failed[Spawn], _ctx: Context) -> Moved:
    """A child could not be born, or was cancelled."""
    spawn = event.action
    name = spawn.machine if isinstance(spawn.machine, str) else spawn.machine.name
    return _counted(state, event, Child(name, str(spawn.key), "", {"error": event.error}, failed=True))


def late(_steps: AnySteps, state: Gather[Any], _event: TimedOut, _ctx: Context) -> Moved:
    """The children have had long enough."""
    return Next(state.then, state.state, timed_out=True, children=state.heard), [CancelChildren()]


def _counted(state: Gather[Any], event: ChildEnded[Any] | Failed[Spawn], child: Child) -> Moved:
    if state.join is None:
        raise TransitionError("a Gather without a join")
    join = state.join.heard(event, good=not child.failed)
    if join == state.join:
        return state, []
    heard = (*state.heard, child)
    early = state.need is not None and (join.met or join.lost)
    if join.open and not early:
        return replace(state, join=join, heard=heard), []
    timers = [] if state.timeout is None else [Cancel(DEADLINE)]
    rest = [CancelChildren()] if join.open else []
    return Next(state.then, state.state, children=heard), [*timers, *rest]


def _spawn(steps: AnySteps, plan: Plan) -> Spawn:
    machine = steps.kin(plan.machine)
    state = decode_named(machine, "state", plan.state, dump(plan.payload, f"state {plan.state}"))
    return Spawn(machine, plan.key, state)
