"""The transitions of a `Steps` machine: from one outcome to the next. Pure, as any machine's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from fsm_core.codec import decode_named, encode
from fsm_core.errors import InvalidPayload, TransitionError, UnhandledEvent
from fsm_core.join import Join
from fsm_core.payload import dump
from fsm_core.steps.outcomes import Await, Child, Done, Gather, Next, Plan, Received, Replay, Stop, TimedOut
from fsm_core.types import MAX_KEY, After, Cancel, CancelChildren, ChildEnded, Failed, Spawn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsm_core.context import Context
    from fsm_core.steps.steps import AnySteps

DEADLINE = "deadline"
"""The timer of an `Await` or a `Gather`."""

TOO_LARGE = {"error": "its end is too large to be kept beside its siblings'"}
"""The result of a child whose own does not fit into its parent's state."""

Running = Next[Any] | Replay[Any]
Moved = tuple[Any, list[Any]]


def outcome(steps: AnySteps, state: Running, event: Any, ctx: Context) -> Moved:
    """A step has come to an end: what it gave is the next state, with what the engine keeps beside it."""
    after, actions = event, list[Any]()
    if isinstance(event, Next):
        after = Next(event.step, event.state)
    elif isinstance(event, Replay):
        after = replace(
            event, step=state.step, attempt=event.attempt + 1, awaited=state.awaited, timed_out=state.timed_out,
            children=state.children,
        )  # fmt: skip
    elif isinstance(event, Await):
        after = replace(event, then=event.then or state.step, awaited=state.awaited)
    elif isinstance(event, Gather):
        after, actions = _gathering(steps, event, ctx)
    # `enter` speaks for a state of another class; for one of the same the transition does.
    return after, [*actions, *(run(steps, after) if type(after) is type(state) else ())]


def run(steps: AnySteps, state: Running, _ctx: object = None) -> list[Any]:
    """On entering a `Next` or a `Replay`: the action that runs its step."""
    action = steps.action_of(state.step)
    delay = state.delay if isinstance(state, Replay) else None
    return [action(state.state, state.awaited, state.attempt, state.timed_out, state.children, delay)]


def lost(_steps: AnySteps, _state: Running, event: Failed[Any], _ctx: Context) -> Moved:
    """Every attempt of the step was lost with its worker, or ran out of time."""
    return Stop(event.error), []


def wait(_steps: AnySteps, state: Await[Any] | Gather[Any], _ctx: Context) -> list[Any]:
    """On entering an `Await` or a `Gather`: its deadline."""
    return [] if state.timeout is None else [After(state.timeout, TimedOut(), DEADLINE)]


def wake(steps: AnySteps, state: Await[Any], event: object, _ctx: Context) -> Moved:
    """A signal that it waits for: the step runs, and is shown it with those that it was shown before."""
    name = steps.event_name(event)
    if name not in state.signals:
        raise UnhandledEvent(steps.name, Await.__name__, name)
    payload = msgspec.json.decode(encode(event, f"event {name}"))
    awaited = (*state.awaited, Received(name, payload, steps.version))
    return Next(_then(state), state.state, 0, awaited), _in_time(state)


def overdue(_steps: AnySteps, state: Await[Any], _event: TimedOut, _ctx: Context) -> Moved:
    """The wait is over: not a failure, the step decides."""
    return Next(_then(state), state.state, 0, state.awaited, timed_out=True), []


def ended(_steps: AnySteps, state: Gather[Any], event: ChildEnded[Any], _ctx: Context) -> Moved:
    """A child has reached its end."""
    name = type(event.state).__name__
    if isinstance(event.state, Done):
        result = event.state.result
    else:
        result = msgspec.json.decode(encode(event.state, f"state {name}"))
    failed = isinstance(event.state, Stop)
    return _counted(state, event, Child(event.machine, event.key, name, result, failed))


def unborn(_steps: AnySteps, state: Gather[Any], event: Failed[Spawn], _ctx: Context) -> Moved:
    """A child could not be born, or was cancelled."""
    spawn = event.action
    name = spawn.machine if isinstance(spawn.machine, str) else spawn.machine.name
    return _counted(state, event, Child(name, str(spawn.key), "", {"error": event.error}, failed=True))


def late(_steps: AnySteps, state: Gather[Any], _event: TimedOut, _ctx: Context) -> Moved:
    """The children have had long enough."""
    return Next(state.then, state.state, timed_out=True, children=state.heard), [CancelChildren()]


def _then(state: Await[Any]) -> str:
    if state.then is None:
        raise TransitionError("an Await that no step gave")
    return state.then


def _in_time(state: Await[Any] | Gather[Any]) -> list[Any]:
    """The deadline, met."""
    return [] if state.timeout is None else [Cancel(DEADLINE)]


def _gathering(steps: AnySteps, event: Gather[Any], ctx: Context) -> Moved:
    """Every child gets a key and is born; the state keeps their names. Without children there is nothing to wait for.

    Raises InvalidPayload: there are too many for all their ends to be kept, whatever these are.
    """
    if not event.children and event.need is None:
        return Next(event.then, event.state), []
    spawns = [_spawn(steps, plan, n, ctx) for n, plan in enumerate(event.children)]
    join = Join.of(len(spawns) if event.need is None else event.need, spawns)
    after = replace(event, children=(), join=join, heard=())
    _check_room(after, join)
    return after, spawns


def _spawn(steps: AnySteps, plan: Plan, n: int, ctx: Context) -> Spawn:
    """The key as the core would make it: the join must know it before."""
    key = f"{ctx.key}/{ctx.seq}.{n}"
    short = key if len(key) <= MAX_KEY else f"{ctx.id}.{ctx.seq}.{n}"
    machine = steps.kin(plan.machine)
    state = decode_named(machine, "state", plan.state, dump(plan.payload, f"state {plan.state}"))
    return Spawn(machine, plan.key or short, state)


def _counted(state: Gather[Any], event: ChildEnded[Any] | Failed[Spawn], child: Child) -> Moved:
    if state.join is None:
        raise TransitionError("a Gather that no step gave")
    join = state.join.heard(event, good=not child.failed)
    if join == state.join:
        return state, []
    after = replace(state, join=join, heard=(*state.heard, child))
    try:
        _check_room(after, join)
    except InvalidPayload:
        # Too large or too deep. It must not keep its parent waiting for ever: it counts as failed, and for that there is room.
        join = state.join.heard(event, good=False)
        cut = Child(child.machine, child.key, "", TOO_LARGE, failed=True)
        after = replace(state, join=join, heard=(*state.heard, cut))
    early = state.need is not None and (join.met or join.lost)
    if join.open and not early:
        return after, []
    rest = [CancelChildren()] if join.open else []
    return Next(state.then, state.state, children=after.heard), [*_in_time(state), *rest]


def _check_room(state: Gather[Any], join: Join) -> None:
    """Raises InvalidPayload, if the state had no room once all children have ended that it still waits for."""
    rest = [Child("", name, "", TOO_LARGE, failed=True) for name in join.open]
    encode(replace(state, heard=(*state.heard, *rest)), "the ends of the children")


def shown(steps: AnySteps, received: Sequence[Received]) -> tuple[object, ...]:
    """Signals as values of their classes. Raises UnknownType, InvalidPayload."""
    return tuple(
        decode_named(steps, "event", each.name, dump(each.payload, each.name), each.version)
        for each in received
    )
