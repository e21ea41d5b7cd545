"""Both type checkers accept what is right and refuse what is wrong, line by line."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyright
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = [HERE / "shop.py", HERE / "passes.py", HERE / "fails.py"]

Findings = dict[tuple[str, int], str]


def expected() -> set[tuple[str, int]]:
    lines = (HERE / "fails.py").read_text().splitlines()
    return {("fails.py", n) for n, line in enumerate(lines, 1) if line.rstrip().endswith("# expect")}


def by_mypy(cache: Path) -> Findings:
    command = [
        sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", "--explicit-package-bases",
        "--python-version=3.11", f"--cache-dir={cache}", "--follow-imports=silent", *map(str, FILES),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(r"^(?:.*/)?(\w+\.py):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    return {(file, int(line)): text for file, line, text in found}


def by_pyright(folder: Path) -> Findings:
    """With the copy in pyright's wheel, run by the machine's own node: its launcher would download one."""
    node = shutil.which("node")
    bundled = Path(pyright.__file__).parent / "dist" / "index.js"
    if node is None or not bundled.is_file():
        pytest.skip(f"pyright needs node on the PATH (found: {node}) and the bundle in its wheel ({bundled})")
    config = folder / "pyrightconfig.json"
    config.write_text(
        json.dumps(
            {
                "include": [os.path.relpath(file, folder) for file in FILES],  # an absolute path is ignored
                "extraPaths": [str(ROOT)],
                "typeCheckingMode": "strict",
                "pythonVersion": "3.11",
                "reportUnusedExpression": "none",  # an attribute that is only looked at is what fails.py is about
                "reportMatchNotExhaustive": "none",  # what says it is assert_never
                "reportUnusedFunction": "none",  # so is a handler that only its decorator uses
            }
        )
    )
    command = [node, str(bundled), "--outputjson", "--project", str(config), "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = [d for d in json.loads(done.stdout)["generalDiagnostics"] if d["severity"] == "error"]
    return {(Path(d["file"]).name, d["range"]["start"]["line"] + 1): d["message"] for d in found}


@pytest.mark.slow
@pytest.mark.parametrize("check", [by_mypy, by_pyright])
def test_the_checker_refuses_the_marked_lines_and_no_other(check: object, tmp_path: Path) -> None:
    """shop.py and passes.py are clean; of fails.py every marked line is an error, and only those."""
    found: Findings = check(tmp_path)  # type: ignore[operator]

    unexpected = {place: text for place, text in found.items() if place not in expected()}
    assert unexpected == {}
    assert expected() - set(found) == set()
    assert len(expected()) > 35
