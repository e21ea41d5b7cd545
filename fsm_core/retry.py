"""How often an effect is tried, and how long to wait in between. The attempts themselves are rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from fsm_core.errors import DefinitionError, InDoubt, Permanent

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

    Wait: TypeAlias = Callable[[RetryCallState], float | int | timedelta]
    """A tenacity wait strategy: seconds (or a timedelta) after the attempt that its argument describes."""

MAX_WAIT = timedelta(days=30)
MOST_ATTEMPTS = 10_000


@dataclass(frozen=True)
class Retry:
    """The policy of one effect.

    max_attempts: how often it is started at most, crashes included. wait: any tenacity wait strategy; the default is
    exponential with jitter, from 1 second to 5 minutes. never: exception types that a repetition cannot help, as if they were
    `Permanent`. doubtful: those that leave open whether it happened (a timeout after the request was sent), as if they were
    `InDoubt`.
    Raises DefinitionError if max_attempts is below 1.
    """

    max_attempts: int = 10
    wait: Wait | None = None
    never: tuple[type[Exception], ...] = ()
    doubtful: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.max_attempts <= MOST_ATTEMPTS:
            raise DefinitionError(f"max_attempts is 1 to {MOST_ATTEMPTS}, not {self.max_attempts}")

    def gives_up(self, error: BaseException, attempt: int) -> bool:
        """Whether attempt number `attempt` (from 1), which raised `error`, was the last."""
        return attempt >= self.max_attempts or isinstance(error, (Permanent, *self.never))

    def doubts(self, error: BaseException) -> bool:
        """Whether an effect that raised `error` may have happened all the same."""
        return isinstance(error, (InDoubt, *self.doubtful))

    def delay(self, attempt: int, error: BaseException | None = None) -> timedelta:
        """How long to wait after attempt number `attempt`, which raised `error`: 0 to 30 days."""
        from tenacity import RetryCallState, wait_exponential_jitter

        call = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        call.attempt_number = attempt
        if error is not None:
            call.set_exception((type(error), error, error.__traceback__))
        wait = self.wait or wait_exponential_jitter(initial=1, max=300)
        pause = wait(call)
        pause = (
            pause
            if isinstance(pause, timedelta)
            else timedelta(seconds=min(float(pause), MAX_WAIT.total_seconds()))
        )
        return min(max(pause, timedelta(0)), MAX_WAIT)
