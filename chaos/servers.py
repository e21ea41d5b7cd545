"""A private PostgreSQL and a private Valkey that can be killed and started again at the same address.

The programs and their settings are those of `fsm dev`; fsync is on. Postgres is stopped by SIGQUIT, which is `pg_ctl -m immediate`:
nothing is written to disk on the way, and the next start recovers from the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import psycopg
import redis

from workers.dev import valkey
from workers.dev.postgres import Cluster

if TYPE_CHECKING:
    from pathlib import Path

    from workers.dev.serverprocess import ServerProcess


HARNESS = "harness"
"""As what the harness's own connections are known to Postgres."""


class Postgres:
    """A cluster of its own under `folder`. All starts are made by the thread that makes this: the servers die with it."""

    def __init__(self, folder: Path) -> None:
        self._cluster = Cluster(folder)
        self._server: ServerProcess | None = None

    def url(self, database: str = "postgres") -> str:
        """Its address, as SQLAlchemy spells it."""
        return self._cluster.url(database)

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A connection of the harness's own, in autocommit. Raises psycopg.OperationalError."""
        return psycopg.connect(
            host=str(self._cluster.socket), user="postgres", dbname=database, autocommit=True, connect_timeout=5,
            application_name=HARNESS,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.immediate()

    def start(self) -> None:
        """Start it, and wait until it answers. Raises DevServersError."""
        self._server = self._cluster.start()
        self._cluster.wait_for(self._server)

    def immediate(self) -> None:
        """`pg_ctl -m immediate`."""
        if self._server is not None:
            self._server.stop()


class Valkey:
    """A broker of its own under `folder`, always at the same port. It keeps nothing: each start is empty. It runs from the start."""

    def __init__(self, folder: Path) -> None:
        self._home = folder / "valkey"
        self._home.mkdir(mode=0o700)
        self._server, self._port = valkey.start(self._home)
        self.url = self.url_of(0)

    def url_of(self, number: int) -> str:
        """The address of one of its logical databases."""
        return f"redis://127.0.0.1:{self._port}/{number}"

    def client(self, number: int = 0) -> redis.Redis:
        """A client of the harness's own."""
        return redis.Redis.from_url(self.url_of(number), socket_timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it again, and wait until it answers. Raises DevServersError."""
        self._server = valkey.start_at(self._home, self._port, log=self._home / "valkey.log")

    def kill(self) -> None:
        """SIGKILL."""
        self._server.stop()
