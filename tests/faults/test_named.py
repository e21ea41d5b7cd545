"""docs/guarantees.md names what proves each promise: all of it is there, and nothing is promised without proof."""

import ast
import re
from pathlib import Path

import pytest

from fsm_core.postgres.crash import Point

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
TESTS = re.findall(r"`([\w/]+)::(\w+)`", PAGE)
OTHERS = re.findall(r"`(chaos|mutant|point):([\w.]+)`", PAGE)


def defined(file: Path) -> set[str]:
    """The names of the functions in it."""
    return {
        n.name
        for n in ast.walk(ast.parse(file.read_text()))
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def keys_and_names(file: Path) -> set[str]:
    """Its literal strings: the keys of its tables among them."""
    return {
        n.value
        for n in ast.walk(ast.parse(file.read_text()))
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }


@pytest.mark.parametrize("file", sorted({file for file, _ in TESTS}))
def test_every_test_that_is_named_exists(file: str) -> None:
    named = {name for of, name in TESTS if of == file}

    assert named <= defined(ROOT / "tests" / f"{file}.py")


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("chaos", defined(ROOT / "chaos" / "oracle.py") | defined(ROOT / "chaos" / "conduct.py")),
        ("mutant", keys_and_names(ROOT / "chaos" / "mutants.py")),
        ("point", {str(point) for point in Point}),
    ],
)
def test_every_check_that_is_named_exists(kind: str, known: set[str]) -> None:
    named = {name for of, name in OTHERS if of == kind}

    assert named
    assert named <= known


@pytest.mark.parametrize("row", [*(f"G{n}" for n in range(1, 15)), *map(str, range(1, 30))])
def test_every_promise_and_every_fault_has_its_proof(row: str) -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith(f"| {row} |")]

    assert any(re.search(r"`[\w/]+::\w+`|`(chaos|mutant|point):", line) for line in lines)
