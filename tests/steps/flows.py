"""A flow whose steps do what the test says, and remember what they were shown."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fsm_core.steps import Await, Done, Gather, Next, Replay, StepContext, Steps, Stop


@dataclass(frozen=True)
class Data:
    n: int = 0


@dataclass(frozen=True)
class Paid:
    amount: int = 0


@dataclass(frozen=True)
class Word:
    text: str = ""


Outcome = Next[Data] | Replay[Data] | Await[Data] | Gather[Data] | Done | Stop
Does = Callable[[Data, StepContext], Any]


@dataclass(frozen=True)
class Seen:
    """One run of a step, as it saw it."""

    step: str
    n: int
    attempt: int
    signals: tuple[object, ...]
    timed_out: bool


@dataclass
class Flow:
    """Steps `a`, `b` and `c`: each does what `does` says, one after the other, the last of it again and again."""

    steps: Steps[Data, Paid | Word]
    does: dict[str, list[Does]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def will(self, step: str, *does: Does) -> None:
        self.does[step] = list(does)

    def run(self, step: str, data: Data, ctx: StepContext) -> Any:
        self.seen.append(Seen(step, data.n, ctx.attempt, ctx.signals, ctx.timed_out))
        does = self.does.get(step, [lambda _data, _ctx: Done()])
        return (does.pop(0) if len(does) > 1 else does[0])(data, ctx)

    def runs(self) -> list[tuple[str, int, int]]:
        """Step, data and attempt of each run."""
        return [(each.step, each.n, each.attempt) for each in self.seen]


def flow(**options: Any) -> Flow:
    """A fresh one; options as of `Steps`."""
    steps = Steps("flow", state=Data, signals=Paid | Word, **options)
    made = Flow(steps)

    @steps.step
    def a(state: Data, ctx: StepContext) -> Outcome:
        return made.run("a", state, ctx)

    @steps.step
    def b(state: Data, ctx: StepContext) -> Outcome:
        return made.run("b", state, ctx)

    @steps.step
    def c(state: Data, ctx: StepContext) -> Outcome:
        return made.run("c", state, ctx)

    return made


def gives(outcome: Any) -> Does:
    """A step that gives this, whatever it is shown."""
    return lambda _data, _ctx: outcome


def raises(error: BaseException) -> Does:
    def does(_data: Data, _ctx: StepContext) -> Any:
        raise error

    return does
