"""Running a step: user code, in a worker, outside any transaction. Whatever it raises is given to the error handler."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from fsm_core.codec import encode
from fsm_core.delivery.outcome import ERROR_TEXT, describe
from fsm_core.draft import Draft
from fsm_core.errors import TransitionError
from fsm_core.steps.context import StepContext
from fsm_core.steps.moves import shown
from fsm_core.steps.outcomes import OUTCOMES, Next, Replay, Stop
from fsm_core.types import MachineStatus
from fsm_core.unit import Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsm_core.effects import Attempt
    from fsm_core.steps.steps import AnySteps


class Handler(NamedTuple):
    """An error handler. context: whether its function asks for one."""

    function: Callable[..., object]
    context: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A declared step. context: whether its function asks for one."""

    steps: AnySteps
    function: Callable[..., Any]
    context: bool

    def run(self, action: Any, attempt: Attempt[Any]) -> object:
        """The effect that runs a plain step."""
        run = _Run(self.steps, action, attempt)
        try:
            return run.sound(self.function(*self._given(run)))
        except Exception as error:  # noqa: BLE001 - the user's step: its own handler judges
            return run.handled(error)

    async def run_async(self, action: Any, attempt: Attempt[Any]) -> object:
        """The effect that runs an async step."""
        run = _Run(self.steps, action, attempt)
        try:
            return run.sound(await self.function(*self._given(run)))
        except Exception as error:  # noqa: BLE001 - the user's step: its own handler judges
            return run.handled(error)

    def _given(self, run: _Run) -> tuple[object, ...]:
        if not self.context:
            return (run.action.state,)
        return run.action.state, replace(run.ctx, signals=shown(self.steps, run.action.awaited))


class _Run(NamedTuple):
    """One run of a step: its action is the state that it runs in."""

    steps: AnySteps
    action: Any
    attempt: Attempt[Any]

    @property
    def ctx(self) -> StepContext[Any]:
        """What an error handler is given: no signals."""
        action = self.action
        tried = action.attempt + self.attempt.number - 1
        return StepContext(self.attempt.key, tried, (), action.timed_out, action.children, self.attempt)

    def sound(self, given: object) -> object:
        """The outcome, if the machine can go on with it. Raises what its transition would.

        Decided here as well, where the handler can still answer: what a transition refuses waits for an operator.
        """
        if not isinstance(given, OUTCOMES):
            raise TransitionError(f"a step gave {type(given).__name__}, no outcome")
        tried = self.ctx.attempt
        outcome = Replay(given.state, given.delay, attempt=tried) if isinstance(given, Replay) else given
        Draft(self.steps, self._seen()).apply(outcome, "result")
        return outcome

    def handled(self, error: Exception) -> object:
        """What the error handler makes of it; without one, and if it raises too, the machine stops."""
        handler = self.steps.handler
        if handler is None:
            return Stop(describe(error))
        given = (error, self.action.state, self.ctx) if handler.context else (error, self.action.state)
        try:
            return self.sound(handler.function(*given))
        except Exception as second:  # noqa: BLE001 - the handler's own: there is nobody left to ask
            return Stop(f"{describe(second)}, while handling {describe(error)}"[:ERROR_TEXT])

    def _seen(self) -> Seen:
        """The machine's row, as far as a decision reads it."""
        steps, action, (machine_id, seq, _), now = (
            self.steps,
            self.action,
            self.attempt.id,
            self.attempt.deadline,
        )
        state: Next[Any] = Next(
            type(action).__name__, action.state, action.attempt, action.awaited, timed_out=action.timed_out,
            children=action.children,
        )  # fmt: skip
        return Seen(
            machine_id, steps.name, self.attempt.key, steps.version, MachineStatus.LIVE, steps.state_name(state),
            encode(state, "state", form=steps.form_of(state)), seq, 0, 0, now, now, now, None,
        )  # fmt: skip
