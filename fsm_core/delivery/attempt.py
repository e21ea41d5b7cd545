"""The order of one attempt: the probe if the outcome is in doubt, then the cap, then the effect. Worker and MemoryStore share it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from fsm_core.codec import decode_named, encode
from fsm_core.delivery.outcome import Outcome, returned, unanswered, used_up
from fsm_core.effects import NotDone, results

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fsm_core.delivery.ports import Claimed
    from fsm_core.effects import Effect
    from fsm_core.registry import AnyEffects, AnyMachine

T = TypeVar("T")


class Overdue(Exception):
    """The attempt's own limit, told apart from a TimeoutError of the effect's. Its message says which limit."""


@dataclass
class Pulse:
    """How long an attempt may go on: to the end of its timeout, or of its longest silence between two heartbeats.

    now: a clock, in seconds. A beat that comes too late revives nothing.
    """

    effect: Effect
    now: Callable[[], float]
    ends: float = field(init=False)
    heard: float = field(init=False)

    def __post_init__(self) -> None:
        self.heard = self.now()
        self.ends = self.heard + self.effect.timeout.total_seconds()

    @property
    def due(self) -> float:
        """When it is over, by that clock; a beat may move it."""
        silence = self.effect.heartbeat_timeout
        return self.ends if silence is None else min(self.ends, self.heard + silence.total_seconds())

    def beat(self) -> None:
        """The effect makes progress."""
        now = self.now()
        if now < self.due:
            self.heard = now

    def overdue(self) -> Overdue | None:
        """Why the attempt is to be given up now; None: it may go on."""
        if self.now() < self.due:
            return None
        silence = self.effect.heartbeat_timeout
        if silence is None or self.due == self.ends:
            return Overdue(f"no answer within {self.effect.timeout.total_seconds():g} s")
        return Overdue(f"no heartbeat for {silence.total_seconds():g} s")


def present(machine: AnyMachine, claimed: Claimed) -> tuple[Claimed, object]:
    """The action of a claim, and the claim as `machine` would have written it: an older version's is upcast.

    Raises UnknownType, InvalidPayload: nobody here can read it.
    """
    action = decode_named(machine, "action", claimed.action, claimed.payload, claimed.version)
    if claimed.version == machine.version:
        return claimed, action
    name = machine.action_name(action)
    payload = encode(action, f"action {name}")
    return claimed._replace(action=name, payload=payload, version=machine.version), action


def attempted(
    machine: AnyMachine,
    effects: AnyEffects,
    effect: Effect,
    claimed: Claimed,
    call: Callable[[Effect], object],
) -> Outcome:
    """What came of one attempt. `call` runs an effect or a probe and returns what it gave.

    Raises what the effect raises, and Overdue: judging that is the caller's, who knows what may end a process.
    """
    probe = effects.prober(claimed.action) if claimed.in_doubt else None
    if probe is not None:
        try:
            answer = call(probe)
        except Overdue:
            raise
        except Exception as error:  # noqa: BLE001 - a probe that raises cannot tell yet
            return unanswered(effect.retry, claimed, error)
        if not isinstance(answer, NotDone):
            return returned(machine, results(answer))
    spent = used_up(effect.retry, claimed, undone=probe is not None)
    return spent or returned(machine, results(call(effect)))


async def within(work: Awaitable[T], pulse: Pulse) -> T:
    """Await an async effect until its pulse, on the clock of the event loop, is overdue. Raises Overdue, and what the effect raises."""
    loop = asyncio.get_running_loop()
    scope = asyncio.timeout(None)
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        if pulse.overdue() is None:  # a heartbeat has moved the limit
            timer = loop.call_at(pulse.due, look)
        else:
            scope.reschedule(loop.time())

    timer = loop.call_at(pulse.due, look)
    try:
        async with scope:
            return await work
    except TimeoutError:
        if scope.expired():
            raise pulse.overdue() or Overdue("no answer in time") from None
        raise
    finally:
        timer.cancel()
