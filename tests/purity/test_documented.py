"""The fixtures of docs/testing.md guard a whole suite: the README's order passes, and one that reads the clock does not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PURE = "    return Charging(state.total), "


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """The README's machine with its tests, and those of docs/testing.md, as a project of its own."""
    for document in ("README.md", "docs/testing.md"):
        for name, code in BLOCK.findall((ROOT / document).read_text()):
            if name != "shop/web.py":
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).write_text(code)
    return tmp_path


def run(suite: Path) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={suite}", "tests"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(suite), str(ROOT)])}
    return subprocess.run(
        command, cwd=suite, env=environ, capture_output=True, text=True, check=False, timeout=100
    ).stdout


def test_a_guarded_suite_of_pure_machines_passes(suite: Path) -> None:
    assert re.search(r"^2 passed", run(suite), re.MULTILINE)


def test_a_guarded_suite_names_what_is_impure(suite: Path) -> None:
    orders = suite / "shop" / "orders.py"
    source = orders.read_text()
    assert PURE in source
    orders.write_text("import time\n" + source.replace(PURE, "    time.time()\n" + PURE))
    line = orders.read_text().splitlines().index("    time.time()") + 1

    out = run(suite)
    assert re.search(
        rf"Impure: pay \(.*orders\.py:\d+\) is impure: time\.time at .*orders\.py:{line}$", out, re.MULTILINE
    )
    assert "passed" not in out.splitlines()[-1]
