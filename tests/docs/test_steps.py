"""The code of docs/steps.md runs and does what the page says, and the tests that it names are there."""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fsm_core.memory import MemoryStore
from fsm_core.steps import Done, Next, Stop

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "steps.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NAMED = {match[1]: code for code in BLOCKS if (match := re.match(r"# (flows/\w+\.py)\n", code))}


@pytest.fixture
def flows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The modules, importable as `flows`."""
    for path, code in NAMED.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name == "flows" or name.startswith("flows.")]:
        del sys.modules[name]


def test_the_first_flow_with_the_calls_beneath_it(flows: Path) -> None:
    """The calls are those of the page, on a store in memory that runs when it is waited for."""
    module: Any = importlib.import_module("flows.checkout")
    (calls,) = [code for code in BLOCKS if code.startswith("store.")]

    class Driven(MemoryStore):
        def wait(self, *address: Any, **_: Any) -> Any:
            self.drain()
            return self.get(*address)

    names = {**vars(module), "store": Driven(module.checkout), "Next": Next}
    *first, last = ast.parse(calls).body
    exec(compile(ast.Module(first, []), "docs/steps.md", "exec"), names)
    assert isinstance(last, ast.Expr)
    assert eval(compile(ast.Expression(last.value), "docs/steps.md", "eval"), names) == Done({"shipped": 42})
    assert 'Done({"shipped": 42})' in calls


def test_the_first_flow_gives_up_after_a_day(flows: Path) -> None:
    module: Any = importlib.import_module("flows.checkout")
    store = MemoryStore(module.checkout)
    store.start(module.checkout, "k", Next("start", module.Order(1)))
    store.drain()
    store.clock.advance(timedelta(days=1))
    store.drain()
    assert store.get(module.checkout, "k").state == Stop("nobody paid")


@pytest.mark.parametrize(
    ("places", "end"),
    [
        (("rome", "paris", "oslo"), Done({"booked": ["rome", "oslo"]})),
        (("rome", "paris"), Stop("too few legs")),
    ],
)
def test_the_trip_gathers(flows: Path, places: tuple[str, ...], end: object) -> None:
    module: Any = importlib.import_module("flows.trip")
    store = MemoryStore(module.trip, module.leg)
    store.start(module.trip, "t", Next("plan", module.Places(places)))
    assert store.drain().bugs == ()
    assert store.get(module.trip, "t").state == end


def test_every_block_is_run_here() -> None:
    assert len(BLOCKS) == len(NAMED) + 1 == 3


def test_the_tests_that_the_page_names_exist() -> None:
    named = re.findall(r"`(tests/\S+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) > 15
    missing = [
        (file, test)
        for file, test in named
        if not re.search(rf"^def {test}\(" if test else "", (ROOT / file).read_text(), re.MULTILINE)
    ]
    assert missing == []
