"""Running attempts: here, on a thread or on the event loop, or in a process of their own; the clock ends what runs too long."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from fsm_core.delivery.attempt import Overdue, Pulse, attempted, present, within
from fsm_core.delivery.outcome import Outcome, Result, describe, raised, timed_out
from fsm_core.effects import Attempt, Effect
from fsm_core.errors import InDoubt, UnknownMachine, UnknownType
from workers.resources import Loop, Resources

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from fsm_core.delivery.ports import Claimed
    from fsm_core.registry import AnyEffects, AnyMachine, Registry
    from workers.isolated import Child, Isolation

T = TypeVar("T")

log = logging.getLogger(__name__)

GRACE = timedelta(seconds=2)
"""What a loop may need to cancel an effect."""

SUSPECT = 2
"""An action that was lost so often may be what kills its process."""


class Exited(Exception):
    """An effect raised what ends a process, or a loop: it is an error like any other."""


@dataclass(frozen=True)
class Job:
    """A claim with all that is needed to run it."""

    machine: AnyMachine
    effects: AnyEffects
    effect: Effect
    claimed: Claimed
    action: object

    @property
    def probed(self) -> bool:
        """Whether there is a probe to ask where the outcome is in doubt."""
        return self.effects.prober(self.claimed.action) is not None


def found(registry: Registry, claimed: Claimed) -> Job:
    """What is needed to run a claim. Raises UnknownMachine, UnknownType, InvalidPayload: nobody here can."""
    machine = registry.reader(claimed.machine, claimed.version)
    effects = registry.effects(claimed.machine, claimed.version)
    if effects is None:
        raise UnknownMachine(f"{claimed.machine} (with effects)", claimed.version, registry.names())
    claimed, action = present(machine, claimed)
    effect = effects.effect(claimed.action)
    if effect is None:
        raise UnknownType(
            claimed.machine, "action with an effect here", claimed.action, tuple(machine.actions)
        )
    return Job(machine, effects, effect, claimed, action)


class Here:
    """Runs attempts in this process: the event loop and the resources that they share."""

    def __init__(self) -> None:
        self._loop = Loop()
        self._resources = Resources(self._loop)

    def attempt(
        self,
        job: Job,
        pulse: Pulse,
        beat: Callable[[], None],
        on_task: Callable[[Callable[[], object]], None] = lambda _cancel: None,
    ) -> Outcome:
        """Run one attempt to its end; returns what came of it. on_task: is given what cancels it, if it is async."""
        claimed, retry = job.claimed, job.effect.retry
        deadline = datetime.now(UTC) + job.effect.timeout

        def call(each: Effect) -> object:
            try:
                # Resources that cannot be entered settle no doubt: within the call, they are the probe's or the effect's trouble.
                attempt = Attempt(
                    claimed.id, claimed.attempt, deadline, self._resources.of(job.effects), claimed.machine, claimed.key, beat
                )  # fmt: skip
                given = (job.action, attempt) if each.takes_attempt else (job.action,)
                return self._called(each, given, pulse, on_task)
            except Exception:
                raise
            except BaseException as error:
                raise Exited(describe(error)) from error

        try:
            return attempted(job.machine, job.effects, job.effect, claimed, call)
        except Overdue as overdue:
            return timed_out(retry, claimed, str(overdue), probed=job.probed)
        except Exception as error:
            if not claimed.tracked:
                log.exception(
                    "untracked action %s (%s.%s) failed", claimed.id, claimed.machine, claimed.action
                )
            return raised(retry, claimed, error, probed=job.probed)

    def close(self) -> None:
        """Leave the resources, stop the loop."""
        self._resources.close()
        self._loop.stop()

    def _called(
        self,
        effect: Effect,
        given: tuple[object, ...],
        pulse: Pulse,
        on_task: Callable[[Callable[[], object]], None],
    ) -> object:
        if not effect.is_async:
            return effect.function(*given)
        task = self._loop.submit(_contained(within(effect.function(*given), pulse)))
        on_task(task.cancel)
        return task.result()


async def _contained(work: Awaitable[T]) -> T:
    """Await; what would end the loop, and all that runs on it, becomes an error."""
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise Exited(describe(error)) from error


@dataclass
class Run:
    """An attempt under way. Whoever settles it first, the effect or the clock, says what came of it.

    killable: whether `stop` surely ends the effect.
    """

    job: Job
    pulse: Pulse
    killable: bool = False
    stopped: bool = False
    settled: bool = False
    ends_by: Callable[[], object] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def over(self) -> float:
        """When the clock gives it up. What is async is cancelled by its own loop before that, unless something blocks the loop."""
        return self.pulse.due + (GRACE.total_seconds() if self.job.effect.is_async else 0.0)

    def stoppable(self, by: Callable[[], object] | None) -> None:
        """From now on `by` ends the effect; None: nobody can, or need. It is ended at once, if it was to be stopped before."""
        with self.lock:
            self.ends_by = by
            if self.stopped and by is not None:
                by()

    def stop(self) -> None:
        """End the effect, if that can be done. Under the lock: a child that has ended this one may be at another."""
        with self.lock:
            self.stopped = True
            if self.ends_by is not None:
                self.ends_by()

    def settle(self) -> bool:
        """Whether this caller is the first."""
        with self.lock:
            first, self.settled = not self.settled, True
            return first


class Runner:
    """Runs effects in one process.

    put: takes what came of an attempt. isolation: the processes of isolated effects. suspicious: whether suspects are isolated too.
    on_hang: told, before its result is put, of an effect that was given up and cannot be stopped. most, patience: with so many of them, or one for so
    many seconds, this process is no good any more: on_stuck, once.
    """

    def __init__(
        self,
        registry: Registry,
        put: Callable[[Result], None],
        *,
        isolation: Isolation,
        suspicious: bool = True,
        most: int = 2,
        patience: timedelta = timedelta(seconds=60),
        on_hang: Callable[[Claimed], None] = lambda _claimed: None,
        on_stuck: Callable[[], None] = lambda: None,
    ) -> None:
        self._registry = registry
        self._put = put
        self._here = Here()
        self._isolation, self._suspicious = isolation, suspicious
        self._most, self._patience = most, patience.total_seconds()
        self._on_hang, self._on_stuck = on_hang, on_stuck
        self._watched: dict[int, Run] = {}
        self._hanging: dict[int, float] = {}
        self._stuck = False
        self._lock = threading.Lock()
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
        self._isolation.close()
        self._here.close()

    def run(self, claimed: Claimed) -> None:
        """Run one attempt to its end, and put its result. Returns when the effect does.

        Raises UnknownMachine, UnknownType, InvalidPayload, ConfigurationError: nobody here can run it; nothing was started.
        """
        job = found(self._registry, claimed)
        child = self._isolation.take() if self._isolates(job) else None
        run = Run(job, Pulse(job.effect, time.monotonic), killable=child is not None)
        self._watched[id(run)] = run
        self._wake.set()
        try:
            outcome = self._outcome(run, child)
        except Exception as error:
            if run.settle():
                raise
            log.warning("%s, after it was given up: %s", claimed.id, describe(error))
            return
        finally:
            self._left(run)
        late = not run.settle()
        if claimed.tracked and not (late and run.killable):
            self._put(Result(job.claimed, outcome, late))

    def hanging(self) -> int:
        """How many effects were given up and go on: nothing can stop them."""
        return len(self._hanging)

    def runs(self) -> list[Run]:
        """What runs now and has a row that says so."""
        return [run for run in list(self._watched.values()) if run.job.claimed.tracked]

    def void(self, runs: Iterable[Run] | None = None) -> None:
        """Their claims are void (None: all): tell them to stop. A plain effect in a thread goes on; its result will be refused."""
        for run in self.runs() if runs is None else runs:
            if run.stopped or run.settled:
                continue
            claimed = run.job.claimed
            log.warning("the claim of %s.%s (%s) is void", claimed.machine, claimed.action, claimed.id)
            run.stop()

    def _isolates(self, job: Job) -> bool:
        """A suspect that takes its own process with it leaves its neighbours alone."""
        suspect = self._suspicious and self._isolation.possible and job.claimed.lost >= SUSPECT
        return job.effect.isolated or suspect

    def _outcome(self, run: Run, child: Child | None) -> Outcome:
        job = run.job
        if child is None:
            return self._here.attempt(job, run.pulse, run.pulse.beat, run.stoppable)
        run.stoppable(child.kill)
        try:
            return child.attempt(job.claimed, job.machine, run.pulse.beat)
        except InDoubt as ended:
            if not job.claimed.tracked:
                log.warning("untracked action %s was lost: %s", job.claimed.id, ended)
            return raised(job.effect.retry, job.claimed, ended, probed=job.probed)
        finally:
            run.stoppable(None)
            self._isolation.give(child)

    def _left(self, run: Run) -> None:
        with self._lock:
            self._watched.pop(id(run), None)
            self._hanging.pop(id(run), None)

    def _watch(self) -> None:
        """Give up what runs too long: its attempt ends now, by its own claim; its result, if one comes, is late."""
        while not self._stop.is_set():
            for run in list(self._watched.values()):
                if time.monotonic() >= run.over and run.settle():
                    self._give_up(run)
            hanging = list(self._hanging.values())
            if not self._stuck and self._is_stuck(hanging):
                self._stuck = True
                self._on_stuck()
            ends = [run.over for run in list(self._watched.values())]
            ends += [] if self._stuck else [since + self._patience for since in hanging]
            self._wake.wait(max(min(ends) - time.monotonic(), 0.01) if ends else None)
            self._wake.clear()

    def _is_stuck(self, hanging: list[float]) -> bool:
        return bool(hanging) and (
            len(hanging) >= self._most or time.monotonic() >= min(hanging) + self._patience
        )

    def _give_up(self, run: Run) -> None:
        job, claimed = run.job, run.job.claimed
        why = str(run.pulse.overdue() or "no answer in time")
        log.error("%s.%s (%s) is given up: %s", claimed.machine, claimed.action, claimed.id, why)
        if run.killable:
            run.stop()
        elif self._hangs(run):
            self._on_hang(claimed)
        if claimed.tracked:
            self._put(Result(claimed, timed_out(job.effect.retry, claimed, why, probed=job.probed)))

    def _hangs(self, run: Run) -> bool:
        with self._lock:
            if self._watched.pop(id(run), None) is None:
                return False  # it has just returned
            self._hanging[id(run)] = time.monotonic()
            return True
