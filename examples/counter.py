"""A counter: one state, three events, and a refusal at either end.

Source: FASM's `csm` example. Run it, without any server: `python examples/counter.py`.
"""

from dataclasses import dataclass

from fsm_core import Effects, Machine, Rejected, To, Untracked
from fsm_core.memory import MemoryStore

MOST = 2**64 - 1


@dataclass(frozen=True)
class Counter:
    value: int = 0


@dataclass(frozen=True)
class Increment:
    by: int = 1


@dataclass(frozen=True)
class Decrement:
    by: int = 1


@dataclass(frozen=True)
class Reset:
    pass


@dataclass(frozen=True)
class Changed:
    """Fire and forget: somebody may look."""

    before: int
    after: int


class OutOfRange(Rejected):
    """The counter would leave 0 to 2**64 - 1."""


counter = Machine(
    "counter",
    states=Counter,
    events=Increment | Decrement | Reset,
    actions=Untracked[Changed],
    initial=Counter(),
)


@counter.on
def increment(state: Counter, event: Increment) -> To[Counter, Changed]:
    return to(state, state.value + event.by)


@counter.on
def decrement(state: Counter, event: Decrement) -> To[Counter, Changed]:
    return to(state, state.value - event.by)


@counter.on
def reset(state: Counter, _event: Reset) -> To[Counter, Changed]:
    return to(state, 0)


def to(state: Counter, value: int) -> tuple[Counter, list[Changed]]:
    if not 0 <= value <= MOST:
        raise OutOfRange(f"{value} is out of range")
    return Counter(value), [Changed(state.value, value)]


effects = Effects(counter)


@effects.act
def show(action: Changed) -> None:
    print(f"from {action.before} to {action.after}")


def main() -> None:
    store = MemoryStore(effects)
    store.start(counter, "csm")
    store.advance(counter, "csm", Increment())
    store.advance(counter, "csm", Increment(MOST - 1))
    store.drain()
    for event in (Increment(), Decrement(MOST + 1)):
        try:
            store.advance(counter, "csm", event)
        except OutOfRange as refusal:
            print(refusal)
    assert store.get(counter, "csm").state == Counter(MOST)

    store.advance(counter, "csm", Decrement(MOST - 41))
    assert store.advance(counter, "csm", Increment()).state == Counter(42)
    assert store.advance(counter, "csm", Reset()).seq == 5  # the refused ones took no number
    assert store.drain().completed == 3


if __name__ == "__main__":
    main()
