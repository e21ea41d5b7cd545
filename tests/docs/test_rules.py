"""The code of docs/rules.md: right passes every check, wrong is caught by those whom the table names, and by nobody else."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from fsm_core import Context, FsmError, Machine, Rejected, advance
from fsm_core.check import Code, check
from fsm_core.codec import prepare
from fsm_core.errors import DefinitionError, InvalidPayload
from fsm_core.memory import MemoryStore
from fsm_core.purity import Impure, Twin, guarded

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs" / "rules.md"
CTX = Context(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1), "7", 1)

_BLOCK = re.compile(r"^```python\n# (rules/\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| (\d+) \| .* \| ([^|]+) \|$", re.MULTILINE)

FILES: dict[str, str] = {path: f"# {path}\n{code}" for path, code in _BLOCK.findall(RULES.read_text())}
TABLE = dict(_ROW.findall(RULES.read_text()))
NAMES = [Path(path).stem for path in FILES if path != "rules/bank.py"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules as files."""
    folder = tmp_path_factory.mktemp("document")
    for path, code in FILES.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(code)
    (folder / "rules" / "__init__.py").touch()
    return folder


@pytest.fixture
def rules(written: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The modules, importable as `rules`."""
    monkeypatch.syspath_prepend(written)
    yield written
    for name in [name for name in sys.modules if name == "rules" or name.startswith("rules.")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def untyped(written: Path) -> set[str]:
    """The modules in which mypy finds an error."""
    options = [
        "--strict",
        "--follow-imports=silent",
        "--no-error-summary",
        "--config-file=",
        "--cache-dir=cache",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *FILES],
        cwd=written,
        env={**os.environ, "MYPYPATH": f"{written}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return set(re.findall(r"^rules/(\w+)\.py:\d+: error", done.stdout, re.MULTILINE))


def story(name: str) -> tuple[Any, list[Any]]:
    """A state of the module's machine, and events that show what it is about."""
    if name.startswith("r1_"):
        module = importlib.import_module("rules.r1_right")
        return module.Basket(["a", "b"]), [module.Add("c"), module.Add("d")]
    if name.startswith("r14_"):
        module = importlib.import_module("rules.r14_right")
        return module.Sending(1001), [module.Continue(), module.Continue()]
    bank = importlib.import_module("rules.bank")
    pays = [bank.Pay(8, 1, frozenset(f"shop {n}" for n in range(20))), bank.Pay(8)]
    results = [bank.Charged(8), bank.Charged(8)] if name.startswith("r9_") else []
    return bank.Account(10), [*pays, *results]


def machine_of(name: str) -> Machine[Any, Any, Any]:
    (machine,) = [
        v for v in vars(importlib.import_module(f"rules.{name}")).values() if isinstance(v, Machine)
    ]
    return machine


def decided(machine: Machine[Any, Any, Any], name: str) -> list[Any]:
    """The states that the story leads to; what is refused leads nowhere."""
    state, events = story(name)
    states = [state]
    for event in events:
        try:
            states.append(advance(machine, states[-1], event, CTX).state)
        except (Rejected, InvalidPayload):
            continue
    return states


def by_definition(name: str) -> bool:
    try:
        prepare(machine_of(name))
    except DefinitionError:
        return True
    return False


def by_check(name: str) -> bool:
    return any(finding.code is Code.UNHANDLED_FAILURE for finding in check(machine_of(name)))


def by_guard(name: str) -> bool:
    machine = machine_of(name)
    try:
        with guarded(machine):
            decided(machine, name)
    except Impure:
        return True
    return False


def by_twin(name: str) -> bool:
    """By the second process, and not by the guard already."""
    machine = machine_of(name)
    (attribute,) = [k for k, v in vars(importlib.import_module(f"rules.{name}")).items() if v is machine]
    try:
        with Twin(f"rules.{name}:{attribute}") as twin, guarded(twin=twin):
            decided(machine, name)
    except Impure as impure:
        return impure.call == "decides otherwise elsewhere"
    return False


def by_invariant(name: str) -> bool:
    machine = machine_of(name)
    return any(machine.violated(state) is not None for state in decided(machine, name))


def by_store(name: str) -> bool:
    machine, (state, events) = machine_of(name), story(name)
    store = MemoryStore()
    store.start(machine, 1, state)
    try:
        for event in events:
            store.advance(machine, 1, event)
    except Rejected:
        return False
    except FsmError:
        return True
    return False


CHECKS: dict[str, Callable[[str], bool]] = {
    "definition": by_definition,
    "`fsm check`": by_check,
    "guard": by_guard,
    "twin": by_twin,
    "invariant": by_invariant,
    "store": by_store,
}


def first_to_catch(name: str, untyped: set[str], *but: str) -> str | None:
    """Who is the first to catch what the module does, in the order in which code meets them; None: nobody does."""
    if name in untyped:
        return "types"
    return next((who for who, catches in CHECKS.items() if who not in but and catches(name)), None)


def aside(named: str) -> set[str]:
    """Most of the machines leave a failed charge out: it is the subject of one rule only."""
    return {"`fsm check`"} - {named}


def test_every_rule_is_shown_and_has_somebody_who_checks_it() -> None:
    shown = {int(re.findall(r"\d+", name)[0]) for name in NAMES if name.endswith("_wrong")}

    assert shown == {int(number) for number in TABLE} == set(range(1, 16))
    assert set(TABLE.values()) <= {"types", *CHECKS}
    assert len(re.findall(r"^```python$", RULES.read_text(), re.MULTILINE)) == len(FILES)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_wrong")])
def test_wrong_is_caught_by_whom_the_table_names(name: str, rules: Path, untyped: set[str]) -> None:
    named = TABLE[name.removeprefix("r").removesuffix("_wrong")]

    assert first_to_catch(name, untyped, *aside(named)) == named


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_right")])
def test_right_passes_every_check(name: str, rules: Path, untyped: set[str]) -> None:
    named = TABLE[name.removeprefix("r").removesuffix("_right")]

    assert first_to_catch(name, untyped, *aside(named)) is None
    assert len(decided(machine_of(name), name)) > 1
