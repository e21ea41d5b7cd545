"""The ends of all children stand in their parent's state; what has no room there keeps no parent waiting."""

from dataclasses import dataclass
from typing import Any

import pytest

from fsm_core import Spawn
from fsm_core.memory import MemoryStore
from fsm_core.steps import Child, Done, Gather, Next, StepContext, Steps

heard: list[tuple[Child, ...]] = []


@dataclass(frozen=True)
class Sort:
    of: str = ""


many = Steps("many", state=Sort)


def large(sort: str) -> dict[str, Any]:
    """A result that may stand alone, and not beside 99 others, or not at all inside another state."""
    if sort == "deep":
        deep: dict[str, Any] = {}
        for _ in range(29):
            deep = {"in": deep}
        return deep
    return {"many": [0] * 4000} if sort == "many" else {"text": "x" * 20_000}


@many.step
def fill(state: Sort) -> Done:
    return Done(large(state.of))


@many.step
def bear(state: Sort) -> Gather[Sort]:
    return Gather([Spawn(many, str(n), Next(fill, state)) for n in range(100)], state, join)


@many.step
def join(state: Sort, ctx: StepContext) -> Done:
    heard.append(ctx.children)
    return Done()


@pytest.mark.parametrize(("sort", "whole"), [("large", 2), ("many", 2), ("deep", 0)])
def test_results_that_have_no_room_together_keep_no_parent_waiting(sort: str, whole: int) -> None:
    """Seen with the ends kept as they are: the parent's state grew beyond its limit, and the last ends were never counted."""
    heard.clear()
    store = MemoryStore(many)
    store.start(many, "k", Next(bear, Sort(sort)))

    assert store.drain().bugs == ()
    assert store.get(many, "k").status == "done"
    (children,) = heard
    kept = [child for child in children if not child.failed]
    assert (len(children), len(kept)) == (100, whole)
    assert all(child.result == large(sort) for child in kept)
    too_large = {"error": "its end is too large to be kept beside its siblings'"}
    assert children[-1] == Child("many", children[-1].key, "", too_large, failed=True)
