"""Each example runs by itself, without a server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("script", "last_line"),
    [
        ("door.py", "Locked(code=4567, attempts=2)"),
        ("orders.py", "Shipped(receipt='receipt-1', parcel='parcel-1')"),
    ],
)
def test_an_example_plays_a_life(script: str, last_line: str, tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / script)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == last_line
