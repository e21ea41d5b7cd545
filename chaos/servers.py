"""A private PostgreSQL and a private Valkey that can be killed and started again at the same address.

The programs and their settings are those of `fsm dev`; fsync is on. Postgres is stopped by SIGQUIT, which is `pg_ctl -m immediate`:
nothing is written to disk on the way, and the next start recovers from the log.
"""

from __future__ import annotations

import os
import pwd
import signal
from typing import TYPE_CHECKING, Self

import psycopg
import redis

from workers.dev import valkey as valkey_of_dev
from workers.dev.postgres import _answers, _command, _environment, _initialise, _programs
from workers.dev.serverprocess import ServerProcess
from workers.dev.valkey import _free_port, _is_ours

if TYPE_CHECKING:
    from pathlib import Path

START_TIMEOUT = 60.0


class Postgres:
    """A cluster of its own under `folder`. All starts are made by the thread that makes this: the servers die with it."""

    def __init__(self, folder: Path) -> None:
        self._user = "nobody" if os.geteuid() == 0 else None
        self._data, self._socket, self._logs = (folder / name for name in ("data", "socket", "postgres"))
        for path in (self._data, self._socket, self._logs):
            path.mkdir(mode=0o700)
            if self._user is not None:
                entry = pwd.getpwnam(self._user)
                os.chown(path, entry.pw_uid, entry.pw_gid)
        self._programs = _programs(folder, self._user)
        _initialise(self._programs, self._data, self._logs / "initdb.log", self._user)
        self._server: ServerProcess | None = None
        self.started: list[float] = []

    def url(self, database: str = "postgres") -> str:
        """Its address, as SQLAlchemy spells it."""
        return f"postgresql+psycopg://postgres@/{database}?host={self._socket}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A connection of the harness's own, in autocommit. Raises psycopg.OperationalError."""
        return psycopg.connect(
            host=str(self._socket), user="postgres", dbname=database, autocommit=True, connect_timeout=5
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.immediate()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._server = ServerProcess(
            "PostgreSQL",
            _command(self._programs, self._data, self._socket),
            log=self._logs / "postgres.log",
            stop_signal=signal.SIGQUIT,
            user=self._user,
            env=_environment(),
        )
        self._server.wait_until(lambda: _answers(self._socket), START_TIMEOUT)

    def immediate(self) -> None:
        """`pg_ctl -m immediate`."""
        if self._server is not None:
            self._server.stop()


class Valkey:
    """A broker of its own under `folder`, always at the same port. It keeps nothing: each start is empty."""

    def __init__(self, folder: Path) -> None:
        self._home = folder / "valkey"
        self._home.mkdir(mode=0o700)
        self._port = _free_port()
        self._server: ServerProcess | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def client(self) -> redis.Redis:
        """A client of the harness's own."""
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        server = ServerProcess(
            "Valkey",
            valkey_of_dev._command(self._home, self._port),  # noqa: SLF001 - the settings of `fsm dev`
            log=self._home / "valkey.log",
            stop_signal=signal.SIGKILL,
        )
        server.wait_until(lambda: _is_ours(self._port, server.pid), START_TIMEOUT)
        self._server = server

    def kill(self) -> None:
        """SIGKILL."""
        if self._server is not None:
            self._server.stop()
