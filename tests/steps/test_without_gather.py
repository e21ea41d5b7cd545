"""gen_durable's own fan-out and fan-in: "everything else is expressed with these two in user code"."""

from contextlib import nullcontext
from dataclasses import dataclass

from fsm_core.memory import MemoryStore
from fsm_core.steps import Await, Done, Next, StepContext, Steps


def test_steps_signals_and_a_wait_are_enough() -> None:
    """gen_durable's own: a step starts the others, each of them signals when it is through, and a pack of signals is the join.

    A step that runs again starts nobody twice (`start` is idempotent by key) and signals nobody twice (a dedup key).
    """

    @dataclass(frozen=True)
    class Part:
        whole: str = ""
        n: int = 0

    @dataclass(frozen=True)
    class PartDone:
        n: int

    class Lost(BaseException):
        pass

    store, lost = MemoryStore(), {"fan_out": 1, "work": 3}
    whole = Steps("whole", state=Part, signals=PartDone, resources=lambda: nullcontext(store))
    part = Steps("part", state=Part, resources=lambda: nullcontext(store))

    def dies(step: str) -> None:
        if lost[step] > 0:
            lost[step] -= 1
            raise Lost

    @whole.step
    def fan_out(state: Part, ctx: StepContext[MemoryStore]) -> Next[Part]:
        for n in range(5):
            ctx.resources.start(part, f"{ctx.key}.{n}", Next(work, Part(ctx.key, n)))
        dies("fan_out")
        return Next(fan_in, state)

    @part.step
    def work(state: Part, ctx: StepContext[MemoryStore]) -> Done:
        ctx.resources.signal(whole, state.whole, PartDone(state.n), dedup_key=ctx.key)
        dies("work")
        return Done()

    @whole.step
    def fan_in(state: Part, ctx: StepContext[MemoryStore]) -> Await[Part] | Done:
        done = [signal.n for signal in ctx.signals if isinstance(signal, PartDone)]
        return Await(PartDone, state) if len(done) < 5 else Done({"parts": sorted(done)})

    running = store.reopen(whole, part)
    store.start(whole, "w", Next(fan_out, Part()))
    while True:
        try:
            running.drain(jump=True)
            break
        except Lost:
            continue

    assert lost == {"fan_out": 0, "work": 0}
    assert store.get(whole, "w").state == Done({"parts": [0, 1, 2, 3, 4]})
    assert len(store.machines("part")) == 5
