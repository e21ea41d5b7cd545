"""One attempt: ask the probe if the outcome is in doubt, run the effect, judge what came of it."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fsm_core.delivery.attempt import Overdue, attempted, present, within
from fsm_core.delivery.outcome import Outcome, Result, raised, timed_out
from fsm_core.effects import Attempt, Effect
from fsm_core.errors import UnknownMachine, UnknownType
from workers.resources import Loop, Resources

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsm_core.delivery.ports import Claimed
    from fsm_core.registry import AnyEffects, AnyMachine, Registry

log = logging.getLogger(__name__)

GRACE = timedelta(seconds=2)
"""What a loop may need to cancel an effect."""


@dataclass
class Run:
    """An attempt under way. Whoever settles it first, the effect or the clock, says what came of it."""

    claimed: Claimed
    effect: Effect
    ends: float
    settled: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def settle(self) -> bool:
        """Whether this caller is the first."""
        with self.lock:
            first, self.settled = not self.settled, True
            return first


class Runner:
    """Runs effects in one process.

    put: takes what came of an attempt. on_overdue: called after an effect that cannot be stopped was given up (None: its
    thread is left behind).
    """

    def __init__(
        self, registry: Registry, put: Callable[[Result], None], on_overdue: Callable[[], None] | None = None
    ) -> None:
        self._registry = registry
        self._put = put
        self._on_overdue = on_overdue
        self._loop = Loop()
        self._resources = Resources(self._loop)
        self._watched: dict[int, Run] = {}
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fsm-timeouts", daemon=True)

    def start(self) -> None:
        """Begin to watch the clock."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; leave the resources."""
        self._stop.set()
        self._wake.set()
        self._resources.close()
        self._loop.stop()

    def run(self, claimed: Claimed) -> None:
        """Run one attempt to its end, and put its result. Returns when the effect does.

        Raises UnknownMachine, UnknownType, InvalidPayload: nobody here can run it; nothing was started.
        """
        machine = self._registry.reader(claimed.machine, claimed.version)
        effects = self._registry.effects(claimed.machine, claimed.version)
        if effects is None:
            raise UnknownMachine(f"{claimed.machine} (with effects)", claimed.version, self._registry.names())
        claimed, action = present(machine, claimed)
        effect = effects.effect(claimed.action)
        if effect is None:
            raise UnknownType(
                claimed.machine, "action with an effect here", claimed.action, tuple(machine.actions)
            )
        run = Run(
            claimed, effect, time.monotonic() + self._patience(effects, claimed, effect).total_seconds()
        )
        self._watched[id(run)] = run
        self._wake.set()
        try:
            outcome = self._attempt(machine, effects, run, action)
        finally:
            self._watched.pop(id(run), None)
        late = not run.settle()
        if claimed.tracked:
            self._put(Result(claimed, outcome, late))

    @staticmethod
    def _patience(effects: AnyEffects, claimed: Claimed, effect: Effect) -> timedelta:
        """After how long the clock gives an attempt up.

        What is async is cancelled by its own loop before that, unless something blocks the loop; a plain function can
        only be given up.
        """
        probe = effects.prober(claimed.action) if claimed.in_doubt else None
        if not effect.is_async or (probe is not None and not probe.is_async):
            return effect.timeout
        return effect.timeout + GRACE + (timedelta(0) if probe is None else probe.timeout)

    def void(self) -> None:
        """The lease was lost: what runs goes on, but its results will be refused."""
        log.warning("%d effects run on without a lease", len(self._watched))

    def _attempt(self, machine: AnyMachine, effects: AnyEffects, run: Run, action: object) -> Outcome:
        claimed, effect = run.claimed, run.effect
        try:
            attempt = self._described(run, self._resources.of(effects))
            return attempted(
                machine, effects, effect, claimed, lambda each: self._call(each, action, attempt)
            )
        except Overdue:
            return timed_out(effect.retry, claimed, effect.timeout)
        except BaseException as error:
            if not claimed.tracked:
                log.exception(
                    "untracked action %s (%s.%s) failed", claimed.id, claimed.machine, claimed.action
                )
            return raised(effect.retry, claimed, error)

    def _described(self, run: Run, resources: object) -> Attempt[Any]:
        claimed = run.claimed
        deadline = datetime.now(UTC) + run.effect.timeout
        return Attempt(claimed.id, claimed.attempt, deadline, resources, claimed.machine, claimed.key)

    def _call(self, effect: Effect, action: object, attempt: Attempt[Any]) -> object:
        given = (action, attempt) if effect.takes_attempt else (action,)
        if not effect.is_async:
            return effect.function(*given)
        return self._loop.run(within(effect, given))

    def _watch(self) -> None:
        """Give up what runs too long: its attempt ends now, by its own claim; its result, if one comes, is late."""
        while not self._stop.is_set():
            runs = list(self._watched.values())
            soonest = min((run.ends for run in runs), default=time.monotonic() + 3600)
            self._wake.wait(max(soonest - time.monotonic(), 0.01))
            self._wake.clear()
            for run in runs:
                if time.monotonic() >= run.ends and run.settle():
                    self._give_up(run)

    def _give_up(self, run: Run) -> None:
        self._watched.pop(id(run), None)
        log.error(
            "effect of %s.%s (%s) overran its timeout",
            run.claimed.machine,
            run.claimed.action,
            run.claimed.id,
        )
        if run.claimed.tracked:
            self._put(Result(run.claimed, timed_out(run.effect.retry, run.claimed, run.effect.timeout)))
        if self._on_overdue is not None:
            self._on_overdue()
