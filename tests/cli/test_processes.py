"""`fsm worker`, `fsm relay` and `fsm dev` run real processes, and leave none behind."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, text

from tests.cli.support import Fsm
from tests.waiting import eventually
from workers.cli.worker import celery_worker
from workers.dev.errors import DevServersError

ROOT = Path(__file__).parents[2]
ALONE = ["--without-gossip", "--without-mingle", "--without-heartbeat"]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ([], ["--loglevel", "INFO", *ALONE]),
        (["-Q", "a,b", "-c4"], ["--loglevel", "INFO", *ALONE, "-Q", "a,b", "-c4"]),
        (["--loglevel=DEBUG"], [*ALONE, "--loglevel=DEBUG"]),
        (["-lDEBUG"], [*ALONE, "-lDEBUG"]),
        (["--heartbeat-interval", "5"], ["--loglevel", "INFO", *ALONE[:2], "--heartbeat-interval", "5"]),
        (["-E"], ["--loglevel", "INFO", *ALONE[:2], "-E"]),
        (ALONE, ["--loglevel", "INFO", *ALONE]),
    ],
)
def test_a_worker_is_celery_s_with_our_defaults(given: list[str], made: list[str]) -> None:
    assert celery_worker(given) == [sys.executable, "-m", "celery", "-A", "workers", "worker", *made]


@pytest.mark.parametrize("words", [["-c", "4", "--pool", "threads"], ["--", "-c", "4", "--pool", "threads"]])
def test_fsm_worker_becomes_celery(fsm: Fsm, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    ran: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execvp", lambda file, command: ran.append((file, command)))

    assert fsm("worker", *words) == (0, "", "")

    ((program, command),) = ran
    assert program == sys.executable
    assert command[-4:] == ["-c", "4", "--pool", "threads"]


def test_fsm_relay_becomes_a_process_without_the_command_line(
    fsm: Fsm, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    ran: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execvp", lambda file, command: ran.append((file, command)))

    assert fsm("relay") == (0, "", "")

    assert ran == [(sys.executable, [sys.executable, "-m", "workers.relay"])]


def test_a_relay_loads_neither_the_command_line_nor_what_runs_effects() -> None:
    """A quarter of its memory each: what it holds is bounded by a target (docs/performance.md, P8)."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, workers.relay; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip

    assert "workers.relay" in loaded
    assert not {"typer", "rich", "workers.runtime", "sqlalchemy.orm", "fsm_core.postgres.sync.store"} & set(
        loaded
    )


@contextmanager
def dev(tmp_path: Path, **environ: str) -> Generator[subprocess.Popen[str]]:
    """A running `fsm dev` for the door; nothing of it is left at the end, whatever the test did."""
    with (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli.main", "dev"],
            cwd=ROOT,
            env=outside(
                **{
                    "FSM_MACHINES": "examples.door_effects:effects",
                    "DOOR_IRC_LOG": str(tmp_path / "irc"),
                    **environ,
                }
            ),
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
        )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def outside(**environ: str) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "BROKER_URL")
    }
    return {**inherited, **environ}


def exports(process: subprocess.Popen[str]) -> dict[str, str]:
    """The variables that `fsm dev` prints for other terminals."""
    assert process.stdout is not None
    found: dict[str, str] = {}
    for line in process.stdout:
        if line.startswith("export "):
            (assignment,) = shlex.split(line)[1:]
            name, _, value = assignment.partition("=")
            found[name] = value
        if line.startswith("Ctrl-C"):
            return found
    raise AssertionError("it ended")


def other_terminal(environ: dict[str, str], *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "workers.cli.main", *words, "--json"],
        cwd=ROOT,
        env=outside(**environ),
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def tree(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


@pytest.mark.slow
def test_fsm_dev_runs_all_that_a_machine_needs_until_ctrl_c(tmp_path: Path) -> None:
    with dev(tmp_path) as process:
        environ = exports(process)
        assert set(environ) == {"DATABASE_URL", "BROKER_URL", "FSM_MACHINES"}
        other_terminal(environ, "start", "door/front")
        other_terminal(environ, "send", "door/front", "Close")

        def done() -> bool:
            events = other_terminal(environ, "history", "door/front")
            return all(action["status"] == "completed" for event in events for action in event["actions"])

        eventually(done, timeout=60, what="both actions of the door completed")
        said = (tmp_path / "irc").read_text()
        assert "door was opened" in said
        assert "door was closed" in said
        alive = tree(process)
        names = " ".join(" ".join(one.cmdline()) for one in alive)
        for part in ("workers.relay", "celery -A workers worker", "workers.dev.guardian", "valkey"):
            assert part in names

        process.send_signal(signal.SIGINT)

        assert process.wait(60) == 0
        assert psutil.wait_procs(alive, timeout=10)[1] == []
        assert process.stdout is not None
        assert process.stdout.read().endswith("fsm dev: everything has ended\n")


@pytest.mark.slow
def test_fsm_dev_uses_the_servers_that_it_is_given(
    tmp_path: Path, database_url: str, broker_url: str, engine: Engine
) -> None:
    with dev(tmp_path, DATABASE_URL=database_url, BROKER_URL=broker_url) as process:
        environ = exports(process)
        assert environ["DATABASE_URL"] == database_url
        assert environ["BROKER_URL"] == broker_url
        other_terminal(environ, "start", "door/front")
        eventually((tmp_path / "irc").exists, timeout=60, what="the door on the channel")
        alive = tree(process)
        assert "guardian" not in " ".join(" ".join(one.cmdline()) for one in alive)

        process.terminate()

        process.wait(60)
        assert psutil.wait_procs(alive, timeout=10)[1] == []
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM fsm.machines")).scalar_one() == 1


@pytest.mark.slow
def test_fsm_dev_serves_the_queues_of_its_machines(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    """The checkout has a queue of its own."""
    given = {"FSM_MACHINES": "examples.checkout:checkout", "FSM_QUEUES": "slow=2"}
    with dev(tmp_path, DATABASE_URL=database_url, BROKER_URL=broker_url, **given) as process:
        environ = exports(process)
        other_terminal(environ, "start", "checkout/o1", "Next", '{"step": "start", "state": {"order": 1}}')

        eventually(
            lambda: other_terminal(environ, "show", "checkout/o1")["state_name"] == "Await",
            timeout=60, what="it waits for its payment",
        )  # fmt: skip
        worker = next(one for one in tree(process) if "celery" in one.cmdline())
        assert worker.cmdline()[worker.cmdline().index("--queues") + 1] == "checkout,default,slow"


def test_fsm_dev_names_a_broker_that_is_away(fsm: Fsm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", "redis://me:s3cret@127.0.0.1:1/0")

    status, out, err = fsm("dev")

    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("fsm: the broker at redis://me:***@127.0.0.1:1/0 does not answer: ")
    assert "s3cret" not in err


def test_fsm_dev_refuses_a_broker_url_that_is_none(fsm: Fsm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", "redis://me:s3cret@127.0.0.1:port/0")

    status, out, err = fsm("dev")

    assert (status, out) == (2, "")
    assert err == "fsm: BROKER_URL is no URL; expected redis://:password@host:6379/0\n"


def test_fsm_dev_names_a_database_that_is_away(
    fsm: Fsm, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_URL", broker_url)
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:s3cret@127.0.0.1:1/app")

    status, out, err = fsm("dev")

    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "postgresql://me:***@127.0.0.1:1/app" in err


def test_fsm_dev_says_why_an_embedded_server_did_not_start(fsm: Fsm, monkeypatch: pytest.MonkeyPatch) -> None:
    import workers.dev.stack

    def away(*_urls: str | None) -> None:
        raise DevServersError("there is no Valkey")

    monkeypatch.setattr(workers.dev.stack, "embedded_servers", away)

    assert fsm("dev") == (1, "", "fsm: there is no Valkey\n")
