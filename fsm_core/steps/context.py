"""What a step may know besides its state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

    from typing_extensions import TypeVar as DefaultTypeVar

    from fsm_core.effects import Attempt
    from fsm_core.steps.outcomes import Child

    R_co = DefaultTypeVar("R_co", covariant=True, default=object)
else:
    R_co = TypeVar("R_co", covariant=True)

E = TypeVar("E")


@dataclass(frozen=True)
class StepContext(Generic[R_co]):
    """One run of a step.

    attempt: how often this step was tried before: by `Replay`, and by workers that were lost. signals: what it is shown, the
    oldest first; they are consumed when the step goes on. timed_out: the wait was over before enough had come. children: how
    those of a `Gather` ended. An error handler is given the same, but for the signals.
    """

    key: str
    attempt: int
    signals: tuple[object, ...] = ()
    timed_out: bool = False
    children: tuple[Child, ...] = ()
    _attempt: Attempt[R_co] | None = field(default=None, repr=False)

    def signal(self, cls: type[E]) -> E | None:
        """The oldest signal of that class, if one is shown."""
        return next((each for each in self.signals if isinstance(each, cls)), None)

    @property
    def idempotency_key(self) -> str:
        """Of this run: the same when it is run again because a worker was lost."""
        return self._run.idempotency_key

    @property
    def deadline(self) -> datetime:
        """When the run is given up (aware)."""
        return self._run.deadline

    @property
    def resources(self) -> R_co:
        """What `Steps(resources=)` yields, entered once per worker process."""
        return self._run.resources

    def heartbeat(self) -> None:
        """Say that the step is at work. Never blocks. Nothing listens to it yet."""
        self._run.heartbeat()

    @property
    def _run(self) -> Attempt[R_co]:
        if self._attempt is None:
            raise RuntimeError("this context belongs to no run")
        return self._attempt
