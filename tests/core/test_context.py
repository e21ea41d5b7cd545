"""A context is recorded or derived: the same in every replay, in every process."""

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest

from fsm_core import Context, Machine, advance, replay

CTX = Context(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=7), "front", 3)

DRAW = """
from datetime import UTC, datetime
from uuid import UUID
from fsm_core import Context
ctx = Context(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=7), "front", 3)
print(ctx.random.random(), ctx.random.randrange(10**9), ctx.uuid(), ctx.uuid())
"""


@dataclass(frozen=True)
class Rolled:
    sides: tuple[int, ...] = ()


@dataclass(frozen=True)
class Roll:
    pass


def dice() -> Machine[Rolled, Roll]:
    m = Machine("dice", states=Rolled, events=Roll)

    @m.on
    def roll(state: Rolled, event: Roll, ctx: Context) -> Rolled:
        return Rolled((*state.sides, ctx.random.randrange(10**9), ctx.uuid().int))

    return m


def test_every_process_draws_the_same_numbers() -> None:
    """Neither PYTHONHASHSEED nor the process changes what a context draws."""
    drawn = {
        subprocess.run(
            [sys.executable, "-c", DRAW],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    again = CTX.fresh()
    assert drawn == {
        f"{again.random.random()} {again.random.randrange(10**9)} {again.uuid()} {again.uuid()}\n"
    }


def test_each_event_and_each_machine_has_its_own_sequence() -> None:
    """Another seq or another id draws other numbers; the key and the time do not matter."""
    other_machine = Context(CTX.now, UUID(int=8), CTX.key, CTX.seq)
    same = Context(datetime(1999, 1, 1, tzinfo=UTC), CTX.id, "back", CTX.seq)

    drawn = [ctx.random.random() for ctx in (CTX.fresh(), CTX.at(4), other_machine, same)]

    assert drawn[0] == drawn[3]
    assert len(set(drawn)) == 3


def test_a_uuid_is_new_with_each_call_and_of_version_4() -> None:
    """Within one event the sequence goes on from draw to draw."""
    ctx = CTX.at(3)
    first, second = ctx.uuid(), ctx.uuid()

    assert first != second
    assert first.version == second.version == 4


def test_the_same_context_gives_the_same_decision_every_time() -> None:
    """`advance` is a function even of a context that was drawn from before."""
    ctx = CTX.at(3)
    ctx.uuid()

    decisions = [advance(dice(), Rolled(), Roll(), ctx) for _ in range(3)]

    assert decisions[0] == decisions[1] == decisions[2] == advance(dice(), Rolled(), Roll(), CTX.at(3))


def test_a_replay_draws_what_the_single_steps_drew() -> None:
    """Folding two events is the same as advancing twice with their own contexts."""
    one = advance(dice(), Rolled(), Roll(), CTX.at(3)).state
    two = advance(dice(), one, Roll(), CTX.at(4)).state

    assert replay(dice(), Rolled(), [Roll(), Roll()], CTX).state == two
    assert replay(dice(), Rolled(), [Roll(), Roll()], [CTX.at(3), CTX.at(4)]).state == two


def test_a_context_cannot_be_changed() -> None:
    """A transition cannot alter the circumstances that the next function sees."""
    with pytest.raises(AttributeError):
        CTX.seq = 9  # type: ignore[misc]
