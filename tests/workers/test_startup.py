"""A process that cannot work says why in one line and ends; it is never half there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def worker(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers", "worker", "-P", "solo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("nowhere:door", "no module 'nowhere'"),
        ("examples.door:nothing", "has no attribute 'nothing'"),
        ("examples.door", "is not module:name"),
        ("examples.door:Opened", "is a type, not a Machine or Effects"),
        ("tests.workers.twins:one,tests.workers.twins:two", "two machines are called 'twin', version 1"),
    ],
)
def test_a_worker_with_a_wrong_machine_list_does_not_start(
    tmp_path: Path, database_url: str, broker_url: str, entry: str, reason: str
) -> None:
    """Each wrong entry is named; two machines of one name and version are an error at start."""
    ended = worker(tmp_path, DATABASE_URL=database_url, BROKER_URL=broker_url, FSM_MACHINES=entry)

    assert ended.returncode == 1
    assert reason in ended.stderr


def test_a_worker_without_its_database_does_not_start(tmp_path: Path, broker_url: str) -> None:
    """It says which server is away and where it was looked for, without the password."""
    away = "postgresql://u:hunter2@127.0.0.1:1/x"
    ended = worker(tmp_path, DATABASE_URL=away, BROKER_URL=broker_url, FSM_MACHINES="examples.door:door")

    assert ended.returncode == 1
    assert "127.0.0.1:1" in ended.stderr
    assert "hunter2" not in ended.stderr


def test_a_worker_without_an_address_says_which_variable(tmp_path: Path, broker_url: str) -> None:
    env = {"BROKER_URL": broker_url, "FSM_MACHINES": "examples.door:door", "DATABASE_URL": ""}

    ended = worker(tmp_path, **env)

    assert ended.returncode == 1
    assert "DATABASE_URL is not set" in ended.stderr
