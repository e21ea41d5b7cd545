"""One attempt of an effect, inline: the probe first where the outcome is in doubt, then the effect, then judging."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fsm_core.delivery.attempt import Overdue, Pulse, attempted, present, within
from fsm_core.delivery.outcome import Outcome, raised, timed_out, unknown
from fsm_core.effects import Attempt, Effect
from fsm_core.errors import FsmError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

    from fsm_core.delivery.ports import Claimed
    from fsm_core.memory.clock import Clock
    from fsm_core.registry import AnyEffects, AnyMachine, Registry

T = TypeVar("T")

log = logging.getLogger(__name__)


class Runner:
    """Runs effects in the calling thread. A context manager: at its end resources are left and the event loop is closed.

    What an effect raises is judged by its policy, except for a BaseException that is no Exception: that comes through, as
    the end of a process would.
    """

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._loop: asyncio.Runner | None = None
        self._entered: dict[int, object] = {}
        self._pulses: tuple[Pulse, ...] = ()
        self._sync = ExitStack()
        self._async = AsyncExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the resources, the last entered first. Raises what they raise."""
        with self._sync:
            if self._loop is not None:
                with self._loop:
                    self._loop.run(self._async.aclose())

    def run(self, claimed: Claimed) -> Outcome:
        """Run one attempt to its end; returns what came of it."""
        self._pulses = ()
        effects = self._registry.effects(claimed.machine, claimed.version)
        if effects is None:
            return unknown(claimed, f"no effect here runs {claimed.action}")
        machine = self._registry.reader(claimed.machine, claimed.version)
        try:
            claimed, action = present(machine, claimed)
        except FsmError as error:
            return unknown(claimed, f"nobody here can run it: {error}")
        effect = effects.effect(claimed.action)
        if effect is None:
            return unknown(claimed, f"no effect here runs {claimed.action}")
        try:
            return self._attempt(machine, effects, effect, claimed, action)
        except Overdue as overdue:
            return timed_out(
                effect.retry, claimed, str(overdue), probed=effects.prober(claimed.action) is not None
            )
        except (Exception, asyncio.CancelledError) as error:
            if not claimed.tracked:
                log.exception("untracked action %s (%s) failed", claimed.id, claimed.action)
            return raised(effect.retry, claimed, error, probed=effects.prober(claimed.action) is not None)

    def ended_by_the_clock(self, claimed: Claimed) -> Outcome | None:
        """That the attempt timed out, if the clock went past a limit of it while it ran; else None."""
        if not self._pulses or not claimed.tracked:
            return None  # nothing was started
        effects = self._registry.effects(claimed.machine, claimed.version)
        overdue = self._pulses[0].overdue()
        if effects is None or overdue is None:
            return None
        effect = self._pulses[0].effect
        probed = effects.prober(effect.action) is not None
        return timed_out(effect.retry, claimed, str(overdue), probed=probed)

    def _attempt(
        self, machine: AnyMachine, effects: AnyEffects, effect: Effect, claimed: Claimed, action: object
    ) -> Outcome:
        deadline = self._clock.now() + effect.timeout
        # Two clocks: the store's, which a test moves, and that of the event loop, which ends what is async.
        began = self._clock.now()

        def elapsed() -> float:
            return (self._clock.now() - began).total_seconds()

        self._pulses = Pulse(effect, elapsed), Pulse(effect, time.monotonic)

        def call(each: Effect) -> object:
            # Resources that cannot be entered settle no doubt: within the call, they are the probe's or the effect's trouble.
            attempt = Attempt(
                claimed.id, claimed.attempt, deadline, self._resources(effects), claimed.machine, claimed.key, self._beat
            )  # fmt: skip
            return self._call(each, (action, attempt) if each.takes_attempt else (action,))

        return attempted(machine, effects, effect, claimed, call)

    def _call(self, effect: Effect, given: tuple[object, ...]) -> object:
        if not effect.is_async:
            return effect.function(*given)
        return self._awaited(within(effect.function(*given), self._pulses[1]))

    def _beat(self) -> None:
        for pulse in self._pulses:
            pulse.beat()

    def _awaited(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.Runner()
        return self._loop.run(work)

    def _resources(self, effects: AnyEffects) -> object:
        """What the factory's context manager yields, entered at first use."""
        if effects.resources is None:
            return None
        if id(effects) not in self._entered:
            manager = effects.resources()
            if isinstance(manager, AbstractAsyncContextManager):
                entered = self._awaited(self._async.enter_async_context(manager))
            else:
                entered = self._sync.enter_context(manager)
            self._entered[id(effects)] = entered
        return self._entered[id(effects)]
