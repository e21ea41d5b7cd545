"""Running a step: user code, in a worker, outside any transaction. Whatever it raises is given to the error handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsm_core.codec import encode
from fsm_core.errors import TransitionError
from fsm_core.steps.context import StepContext, shown
from fsm_core.steps.outcomes import OUTCOMES, Replay, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fsm_core.effects import Attempt
    from fsm_core.steps.steps import AnySteps

MOST = 2000
"""Characters of a reason that are kept."""


def runner(steps: AnySteps, function: Callable[..., Any], *, context: bool) -> Callable[..., Any]:
    """The effect that runs a plain step."""

    def run(action: Any, attempt: Attempt[Any]) -> object:
        ctx = _context(steps, action, attempt)
        try:
            given = (action.state, ctx) if context else (action.state,)
            return sound(steps, function(*given), ctx)
        except Exception as error:  # noqa: BLE001 - the user's step: its own handler judges
            return handled(steps, error, action.state, ctx)

    return run


def async_runner(
    steps: AnySteps, function: Callable[..., Coroutine[Any, Any, Any]], *, context: bool
) -> Callable[..., Coroutine[Any, Any, object]]:
    """The effect that runs an async step."""

    async def run(action: Any, attempt: Attempt[Any]) -> object:
        ctx = _context(steps, action, attempt)
        try:
            given = (action.state, ctx) if context else (action.state,)
            return sound(steps, await function(*given), ctx)
        except Exception as error:  # noqa: BLE001 - the user's step: its own handler judges
            return handled(steps, error, action.state, ctx)

    return run


def sound(steps: AnySteps, given: object, ctx: StepContext[Any]) -> object:
    """The outcome, if it is one that can be kept. Raises TransitionError, UnknownType, InvalidPayload.

    Asked here, where the handler can still answer: a result that could not be written would be run again for ever.
    """
    if not isinstance(given, OUTCOMES):
        raise TransitionError(f"a step gave {type(given).__name__}, no outcome")
    outcome = Replay(given.state, given.delay, attempt=ctx.attempt) if isinstance(given, Replay) else given
    encode(outcome, f"outcome {steps.event_name(outcome)}", form=steps.form_of(outcome))
    steps.check(outcome)
    return outcome


def handled(steps: AnySteps, error: Exception, state: object, ctx: StepContext[Any]) -> object:
    """What the error handler makes of it; without one, and if it raises too, the machine stops."""
    if steps.handler is None:
        return Stop(_text(error))
    try:
        return sound(steps, steps.handler(error, state, ctx.without_signals()), ctx)
    except Exception as second:  # noqa: BLE001 - the handler's own: there is nobody left to ask
        return Stop(f"{_text(second)}, while handling {_text(error)}"[:MOST])


def _context(steps: AnySteps, action: Any, attempt: Attempt[Any]) -> StepContext[Any]:
    tried = action.attempt + attempt.number - 1
    signals = shown(steps, action.awaited)
    return StepContext(attempt.key, tried, signals, action.timed_out, action.children, attempt)


def _text(error: Exception) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception whose str() raises
        text = "(its message cannot be shown)"
    clean = text.replace("\0", "").encode(errors="replace").decode()
    return (f"{type(error).__name__}: {clean}" if clean else type(error).__name__)[:MOST]
