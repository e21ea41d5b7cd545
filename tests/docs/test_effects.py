"""docs/effects.md: its machine runs, its own test passes, and what its tables say of errors and doubts holds."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsm_core.memory import MemoryStore
from tests.docs.test_readme import ROOT, blocks, named_modules, written

PAGE = ROOT / "docs" / "effects.md"


@pytest.fixture
def shipping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The page's module `shop.shipping`."""
    written(PAGE, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("shop.shipping")
    for name in [name for name in sys.modules if name == "shop" or name.startswith("shop.")]:
        del sys.modules[name]


def test_every_block_is_run() -> None:
    assert list(named_modules(PAGE)) == ["shop/shipping.py", "tests/test_shipping.py"]
    assert len(blocks(PAGE, "python")) == 3


def test_the_pages_own_test_passes(shipping: Any) -> None:
    namespace: dict[str, Any] = {}
    exec(named_modules(PAGE)["tests/test_shipping.py"], namespace)

    namespace["test_an_order_whose_answer_was_lost_is_not_made_twice"]()


@pytest.mark.parametrize(
    ("weight", "answers", "outcomes", "end"),
    [
        (7, [], ["completed"], "Sent(label='label-7')"),
        (
            7,
            [ConnectionError("refused")] * 3,
            ["error", "error", "failed"],
            "Stuck(why='ConnectionError: refused')",
        ),
        (31, [], ["failed"], "Stuck(why='too heavy')"),
        (7, ["pending"], ["error", "completed"], "Sent(label='label-7')"),
        (7, [TimeoutError("no answer")], ["error", "completed"], "Sent(label='label-7')"),
    ],
)
def test_what_may_come_of_an_attempt(
    shipping: Any, weight: int, answers: list[Any], outcomes: list[str], end: str
) -> None:
    store = MemoryStore(shipping.effects)
    shipping.carrier.answers = list(answers)
    store.start(shipping.shipping, 1, shipping.Packed(weight))
    store.advance(shipping.shipping, 1, shipping.Send())

    store.drain(jump=True)

    assert [attempt.outcome for attempt in store.actions()[0].attempts] == outcomes
    assert repr(store.get(shipping.shipping, 1).state) == end


def test_the_isolated_example_declares(shipping: Any) -> None:
    """Its options are those that `act` takes."""
    (code,) = [code for code in blocks(PAGE, "python") if "isolated=True" in code]
    from dataclasses import make_dataclass

    from fsm_core import Attempt, Effects, Machine

    convert, converted, idle = (
        make_dataclass(name, [], frozen=True) for name in ("Convert", "Converted", "Idle")
    )
    machine: Any = Machine("converting", states=idle, events=converted, actions=convert, initial=idle())
    effects: Any = Effects(machine)
    exec(code, {"effects": effects, "Convert": convert, "Converted": converted, "Attempt": Attempt})

    effect = effects.effect("Convert")
    assert (effect.isolated, effect.timeout.total_seconds(), effect.heartbeat_timeout.total_seconds()) == (
        True,
        600,
        30,
    )
