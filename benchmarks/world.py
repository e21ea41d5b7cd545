"""The world of a benchmark: one real PostgreSQL (fsync on), one real Valkey, and a rival's processes for its turn."""

import os
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
import redis
from psycopg import sql
from sqlalchemy.engine import make_url

from benchmarks.frame import Options
from benchmarks.rivals import Rival
from benchmarks.running import Running
from workers.dev.directory import private_directory
from workers.dev.postgres import postgres
from workers.dev.supervise import Supervisor
from workers.dev.valkey import valkey

SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB", "fsync": "on", "synchronous_commit": "on"}


@dataclass(frozen=True)
class World:
    """Servers that are up.

    broker_url: of one of the lower eight logical databases; what is kept has it, the others have the one eight above, as two
    fleets on one queue would take each other's messages. folder: for logs. server_pids: of those on this machine, by name.
    kept: rivals that stay up from one benchmark to the next; None: each has its processes for its own turn only, and an
    empty database.
    """

    database_url: str
    broker_url: str
    folder: Path
    supervisor: Supervisor
    server_pids: Mapping[str, int]
    stack: ExitStack
    kept: dict[Rival, Running] | None = field(default=None)

    @contextmanager
    def database(self) -> Generator[str]:
        """A database of its own, empty."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        administer(self.database_url, "CREATE DATABASE {}", name)
        try:
            yield make_url(self.database_url).set(database=name).render_as_string(hide_password=False)
        finally:
            with suppress(psycopg.OperationalError):  # a Ctrl-C ends the server too
                administer(self.database_url, "DROP DATABASE {} WITH (FORCE)", name)

    @contextmanager
    def up(self, rival: Rival, options: Options, database_url: str | None = None) -> Iterator[Running]:
        """A rival with its tables, its processes, and some cycles behind it; in a database of its own, if none is given."""
        if self.kept is not None and database_url is None:
            if rival not in self.kept:
                running = self.stack.enter_context(self.ready(rival, options, broker_url=self.broker_url))
                warmed(running, options)
                self.kept[rival] = running
            yield self.kept[rival]
            return
        with self.ready(rival, options, database_url) as running:
            warmed(running, options)
            yield running

    @contextmanager
    def ready(
        self, rival: Rival, options: Options, database_url: str | None = None, broker_url: str | None = None
    ) -> Iterator[Running]:
        """The same, before any of its processes runs."""
        url = make_url(self.broker_url)
        passing = url.set(database=str(int(url.database or 0) + 8)).render_as_string(hide_password=False)
        with redis.Redis.from_url(broker_url or passing) as broker:
            broker.flushdb()
        with ExitStack() as stack:
            place = plain(database_url or stack.enter_context(self.database()))
            running = Running(rival, place, broker_url or passing, self)
            stack.callback(running.close)
            running.client.ask("prepare", machines=options.size(10_000, 20))
            yield running


def warmed(running: Running, options: Options) -> None:
    """Start its processes, and let half a second's cycles be the first: they are imports, connections, plans."""
    running.start()
    running.turn("submit", options.size(running.rival.pace // 2, 8), clients=1)


@contextmanager
def world(options: Options) -> Generator[World]:
    """Servers for as long as the context lasts: those of the options, or of DATABASE_URL and BROKER_URL, or embedded ones."""
    if isinstance(options.world, World):
        yield options.world
        return
    with ExitStack() as stack:
        database_url, broker_url = os.environ.get("DATABASE_URL"), os.environ.get("BROKER_URL")
        if not (database_url and broker_url):
            directory = stack.enter_context(private_directory())
            broker_url = broker_url or stack.enter_context(valkey(directory))
            if not database_url:
                database_url = stack.enter_context(postgres(directory, SETTINGS))
        yield stack.enter_context(world_on(database_url, broker_url))


@contextmanager
def world_on(database_url: str, broker_url: str, *, keep: bool = False) -> Generator[World]:
    """A world on servers that are there. Its logical database of the broker is emptied. keep: see `World.kept`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="fsm-bench-")))
        supervisor = stack.enter_context(Supervisor(grace=10))
        inner = stack.enter_context(ExitStack())
        pids = servers(database_url, broker_url)
        yield World(database_url, broker_url, folder, supervisor, pids, inner, {} if keep else None)


def servers(database_url: str, broker_url: str) -> dict[str, int]:
    """The first processes of the servers, as far as they are on this machine."""
    with psycopg.connect(plain(database_url)) as connection:
        row = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
    with redis.Redis.from_url(broker_url) as broker:
        valkey_pid = int(broker.info("server")["process_id"])
    found = {"postgres": int(str(row[0]).split()[0]) if row else 0, "valkey": valkey_pid}
    return {name: pid for name, pid in found.items() if psutil.pid_exists(pid)}


def administer(url: str, statement: str, *names: str) -> None:
    """A statement on the database of `url`, outside any transaction."""
    with psycopg.connect(plain(url), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def plain(url: str) -> str:
    """The URL as libpq spells it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
