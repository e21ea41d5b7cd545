"""The machines of the examples are pure, in two processes: every function that they declare, and the stories that they tell."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_origin, get_type_hints
from uuid import UUID

import pytest
from msgspec import Struct

from examples import counter, life, payments
from examples.door import SEVEN, Opened, door
from fsm_core import ChildEnded, Context, Failed, Machine, Rejected, Spawn, advance, begin, replay
from fsm_core.purity import Twin, guarded

EXAMPLES = Path(__file__).parents[2] / "examples"
CTX = Context(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1), "7", 1)
VALUES: dict[object, object] = {int: 1, str: "a", datetime: CTX.now, tuple: ()}


def addresses() -> Iterator[str]:
    """Every machine that a module of the examples declares."""
    for path in sorted(EXAMPLES.glob("*.py")):
        if " = Machine(" in path.read_text():
            module = importlib.import_module(f"examples.{path.stem}")
            yield from (
                f"{module.__name__}:{name}"
                for name, value in vars(module).items()
                if isinstance(value, Machine)
            )


@pytest.fixture(scope="module")
def twin() -> Iterator[Twin]:
    with Twin(*addresses()) as twin:
        yield twin


def sample(cls: Any) -> Any:
    """A value of that class."""
    if is_dataclass(cls) or (isinstance(cls, type) and issubclass(cls, Struct)):
        return cls(*(sample(hint) for name, hint in get_type_hints(cls).items() if not name.startswith("__")))
    return VALUES.get(get_origin(cls) or cls)


def wrapped(kind: type, of: type) -> Any:
    """An event that only the engine makes, of what it holds."""
    if kind is ChildEnded:
        return ChildEnded("leg", "7-a", sample(of))
    return Failed(Spawn("leg", "7-a") if of is Spawn else sample(of))


def decide_everything(machine: Machine[Any, Any, Any]) -> int:
    """Every edge, `enter`, timeout and route, each with a sample of what it takes."""
    decided = 0
    for state, key in machine.edges:
        event = wrapped(*key) if isinstance(key, tuple) else sample(key)
        with suppress(Rejected):
            advance(machine, sample(state), event, CTX)
        decided += 1
    for member in machine.states.values():
        begin(machine, sample(member.cls), CTX)
        machine.state_timeout(sample(member.cls))
        machine.restored(sample(member.cls))
        assert machine.violated(sample(member.cls)) is None
    for member in machine.actions.values():
        machine.routed(sample(member.cls))
    return decided


@pytest.mark.parametrize("address", [*addresses()])
def test_every_function_of_an_example_is_pure(address: str, twin: Twin) -> None:
    (machine,) = [machine for machine in twin.machines if address.endswith(f":{machine.name}")]
    with guarded(twin=twin):
        assert decide_everything(machine) > 1


@pytest.mark.parametrize(
    "story", [counter.main, life.main, payments.main, lambda: replay(door, Opened(), SEVEN)]
)
def test_a_story_is_pure(story: Callable[[], object], twin: Twin) -> None:
    with guarded(twin=twin):
        story()
