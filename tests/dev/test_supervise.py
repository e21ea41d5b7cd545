"""Supervised children are started again when they die, and end with their supervisor, however it ends."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.waiting import eventually
from workers.dev.supervise import Command, Ended, Supervisor, next_delay

ROOT = Path(__file__).parents[2]
SLEEP = [sys.executable, "-S", "-c", "import signal; print('up', flush=True); signal.pause()"]
STUBBORN = [
    sys.executable,
    "-S",
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()",
]
# Leaves a grandchild behind in its process group.
PARENT = [
    sys.executable,
    "-S",
    "-c",
    "import os, signal; pid = os.fork(); pid and print(pid, flush=True); signal.pause()",
]

SUPERVISING = """
import sys, time
from workers.dev.supervise import Command, Supervisor
with Supervisor(grace=5) as supervisor:
    pid = supervisor.start("child", Command([sys.executable, "-S", "-c", "import signal; signal.pause()"]))
    print(pid, flush=True)
    if sys.argv[1:] == ["raise"]:
        raise RuntimeError
    supervisor.wait()
"""


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def says(log: Path, text: str = "up") -> str:
    return eventually(
        lambda: log.exists() and text in log.read_text() and log.read_text(), what=f"{text!r} in {log}"
    )


def test_the_delay_doubles_up_to_a_bound_and_is_forgotten() -> None:
    delays = [next_delay(delay, lived=1) for delay in (0, 0.2, 0.4, 4.0, 5.0)]

    assert delays == [0.2, 0.4, 0.8, 5.0, 5.0]
    assert next_delay(5.0, lived=30) == 0.2


def test_a_child_has_what_its_command_says(tmp_path: Path) -> None:
    show = [
        sys.executable,
        "-c",
        "import os; print(os.getcwd(), os.environ['WORD'], os.getsid(0) == os.getpid())",
    ]
    with Supervisor() as supervisor:
        supervisor.start(
            "child", Command(show, env={"WORD": "hello"}, cwd=tmp_path, log=tmp_path / "log", restart=False)
        )

        assert says(tmp_path / "log", "hello") == f"{tmp_path} hello True\n"


def test_the_pid_is_that_of_the_program(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        pid = supervisor.start("child", Command(SLEEP, log=tmp_path / "log"))
        says(tmp_path / "log")

        assert psutil.Process(pid).cmdline() == SLEEP
        assert supervisor.pid("child") == pid


def test_what_dies_is_started_again(tmp_path: Path) -> None:
    ends: list[Ended] = []
    with Supervisor(on_end=ends.append) as supervisor:
        first = supervisor.start("child", Command(SLEEP, log=tmp_path / "log"))

        os.kill(first, signal.SIGKILL)

        eventually(lambda: supervisor.starts("child") == 2, what="a second start")
        assert supervisor.pid("child") != first
        assert ends == [Ended("child", -signal.SIGKILL, 0.2)]


def test_restart_can_be_turned_off(tmp_path: Path) -> None:
    ends: list[Ended] = []
    with Supervisor(on_end=ends.append) as supervisor:
        supervisor.start("child", Command(["/bin/sh", "-c", "exit 7"], log=tmp_path / "log", restart=False))

        eventually(lambda: ends, what="the end is told")
        assert ends == [Ended("child", 7, None)]
        assert supervisor.starts("child") == 1
        with pytest.raises(TimeoutError, match="'child' is not running"):
            supervisor.pid("child", timeout=0.1)


def test_a_stopped_child_stays_away(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        pid = supervisor.start("child", Command(SLEEP, log=tmp_path / "log"))

        supervisor.stop("child")

        assert gone(pid)
        with pytest.raises(KeyError):
            supervisor.pid("child")


def test_leaving_ends_all_children(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        pids = [supervisor.start(name, Command(SLEEP, log=tmp_path / name)) for name in ("one", "other")]

    assert all(gone(pid) for pid in pids)


def test_a_stubborn_child_is_killed_after_the_grace(tmp_path: Path) -> None:
    with Supervisor(grace=0.2) as supervisor:
        pid = supervisor.start("child", Command(STUBBORN, log=tmp_path / "log"))
        says(tmp_path / "log")

    assert gone(pid)


def test_the_rest_of_a_group_goes_with_its_leader(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        supervisor.start("child", Command(PARENT, log=tmp_path / "log"))
        grandchild = int(says(tmp_path / "log", "\n"))

    eventually(lambda: gone(grandchild), what="the grandchild is gone")


def test_what_cannot_be_started_says_so(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        with pytest.raises(FileNotFoundError):
            supervisor.start("child", Command(SLEEP, cwd=tmp_path / "nowhere"))
        with pytest.raises(KeyError):
            supervisor.pid("child")


def test_an_unknown_program_is_named_in_the_log(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        supervisor.start("child", Command(["no-such-program"], log=tmp_path / "log", restart=False))

        assert "cannot run no-such-program" in says(tmp_path / "log", "\n")


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        supervisor.start("child", Command(SLEEP, log=tmp_path / "log"))

        with pytest.raises(ValueError, match="named 'child' already"):
            supervisor.start("child", Command(SLEEP, log=tmp_path / "log"))


def test_a_child_started_from_a_passing_thread_stays(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        thread = threading.Thread(
            target=supervisor.start, args=("child", Command(SLEEP, log=tmp_path / "log"))
        )
        thread.start()
        thread.join()
        says(tmp_path / "log")

        assert supervisor.starts("child") == 1
        assert not gone(supervisor.pid("child"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_children_end_when_the_supervisor_gets_a_signal(number: signal.Signals) -> None:
    with supervising() as process:
        child = pid_of_child(process)

        process.send_signal(number)

        assert process.wait(30) != 0
        eventually(lambda: gone(child), what="the child is gone")


def test_children_end_with_an_error_of_the_supervisor() -> None:
    with supervising("raise") as process:
        child = pid_of_child(process)

        assert process.wait(30) == 1
        assert gone(child)


def supervising(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SUPERVISING, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def pid_of_child(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())
