"""`make demo`, for real: it ends well, survives the death of its worker, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, text

from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
Demo = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Demo]:
    """Starts demos that carry a mark and have a directory for their files; at the end nothing of either may be left."""
    started: list[subprocess.Popen[str]] = []
    directory = Path(tempfile.mkdtemp(prefix="d-"))  # not tmp_path: a server's socket needs a short path
    directory.chmod(0o755)
    mark = {"FSM_DEMO_TEST": directory.name, "TMPDIR": str(directory)}

    def begin(*arguments: str, **environ: str) -> "subprocess.Popen[str]":
        inherited = {
            k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "BROKER_URL", "FSM_MACHINES")
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.demo", *arguments],
            cwd=ROOT,
            env={**inherited, **mark, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()
    eventually(lambda: not marked(mark), what="no process is left")
    eventually(lambda: not list(directory.iterdir()), what="no file is left")
    directory.rmdir()


def marked(mark: dict[str, str]) -> list[str]:
    """The command lines of the processes whose environment has the mark."""

    def has_it(process: psutil.Process) -> bool:
        try:
            return mark.items() <= process.environ().items() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    return [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]) if has_it(p)]


def read_until(process: "subprocess.Popen[str]", what: str) -> str:
    """What it prints, up to the line with `what`."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if what in line:
            return said
    raise AssertionError(f"it ended without {what!r}:\n{said}")


def rows(engine: Engine, statement: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def figures(output: str) -> dict[str, str]:
    """The closing table: name -> figure."""
    return dict(re.findall(r"^ (\w+(?: \w+)?) +([\d.]+)", output.partition("flaky shop")[2], re.MULTILINE))


def ends(engine: Engine) -> list[tuple[Any, ...]]:
    """Where each order ended, without what tells one demo's keys from another's."""
    state = "regexp_replace(state::text, '-[0-9a-f]{6}', '', 'g')"
    return rows(
        engine,
        f"SELECT split_part(key, '-', 1), state_name, {state}, seq FROM fsm.machines WHERE fsm = 'orders' ORDER BY 1",
    )


def test_it_ends_well(start: Demo, database_url: str, broker_url: str, engine: Engine) -> None:
    demo = start("--orders", "10", DATABASE_URL=database_url, BROKER_URL=broker_url)

    said, _ = demo.communicate(timeout=100)

    assert demo.returncode == 0, said
    assert "Unlock(code=1234)  -> Locked(code=4567, attempts=2)" in said
    assert "door was opened (process" in said
    assert "10 of 10 orders ended" in said
    assert "\x1b" not in said
    ((events, actions),) = rows(
        engine, "SELECT count(*) FILTER (WHERE e.seq > 0), (SELECT count(*) FROM fsm.actions a WHERE a.machine_id = m.id)"
        " FROM fsm.events e JOIN fsm.machines m ON m.id = e.machine_id WHERE m.fsm = 'door' GROUP BY m.id"
    )  # fmt: skip
    assert (events, actions) == (7, 8)
    assert sorted(int(key) for key, *_ in ends(engine)) == list(range(1, 11))
    shown = figures(said)
    ((attempts, retries),) = rows(
        engine, "SELECT sum(attempt), sum(greatest(attempt - 1, 0)) FROM fsm.actions a JOIN fsm.machines m"
        " ON m.id = a.machine_id WHERE m.fsm = 'orders'"
    )  # fmt: skip
    assert (int(shown["attempts"]), int(shown["retries"])) == (attempts, retries)
    assert (shown["charged twice"], shown["sent twice"]) == ("0", "0")


@pytest.mark.slow
def test_a_killed_worker_changes_only_the_attempts(
    start: Demo, database_url: str, broker_url: str, engine: Engine
) -> None:
    environ = {"DATABASE_URL": database_url, "BROKER_URL": broker_url}
    calm, _ = (first := start("--orders", "12", **environ)).communicate(timeout=100)
    before = ends(engine)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE fsm.machines CASCADE"))

    said, _ = (second := start("--orders", "12", "--kill", **environ)).communicate(timeout=100)

    assert (first.returncode, second.returncode) == (0, 0), calm + said
    assert "worker-1 was ended by SIGKILL; the supervisor starts it again" in said
    assert ends(engine) == before
    same = ("orders done", "orders failed", "events", "actions", "charged twice", "sent twice")
    assert [figures(said)[name] for name in same] == [figures(calm)[name] for name in same]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing(start: Demo, number: signal.Signals) -> None:
    demo = start("--orders", "100")
    read_until(demo, "of 100 orders ended")

    # As a terminal does it: to the whole foreground group.
    os.killpg(demo.pid, number)
    said, _ = demo.communicate(timeout=60)

    assert demo.returncode == 128 + number
    assert "Traceback" not in said


def test_a_broken_worker_ends_it_with_the_reason(
    start: Demo, tmp_path: Path, database_url: str, broker_url: str
) -> None:
    (tmp_path / "broken_config.py").write_text(
        "import sys\nif 'worker' in sys.argv:\n    raise RuntimeError('this worker cannot start')\n"
    )
    environ = {"PYTHONPATH": str(tmp_path), "CELERY_CONFIG_MODULE": "broken_config"}
    demo = start("--orders", "1", DATABASE_URL=database_url, BROKER_URL=broker_url, **environ)

    said, _ = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert "The demo failed: worker-1 ended with status" in said
    assert "RuntimeError: this worker cannot start" in said


def test_a_server_that_is_away_is_named(start: Demo) -> None:
    demo = start(
        DATABASE_URL="postgresql://me:secret@127.0.0.1:1/nowhere", BROKER_URL="redis://127.0.0.1:1/0"
    )

    said, _ = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert "The demo failed: " in said
    assert "me:***@127.0.0.1:1/nowhere" in said
    assert "secret" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("arguments", [["--orders", "0"], ["--orders", "many"], ["--nonsense"]])
def test_a_wrong_option_is_refused(start: Demo, arguments: list[str]) -> None:
    demo = start(*arguments)

    said, _ = demo.communicate(timeout=30)

    assert demo.returncode == 2
    assert said.startswith("usage: python -m examples.demo")
