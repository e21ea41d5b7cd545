"""A whole stack on this machine: the servers, the tables, a relay and workers, for as long as a context lasts."""

import contextlib
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsm_core.errors import BrokerUnavailable, ConfigurationError
from workers.dev.servers import Servers, embedded_servers
from workers.dev.supervise import Command, Ended, Supervisor

__all__ = ["Stack", "stack"]

_ANSWER_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack.

    Attributes:
        database_url: Where PostgreSQL is.
        broker_url: Where Redis or Valkey is.
        env: The variables with which another process joins the stack.
        supervisor: Runs the children `relay` and `worker-1`, `worker-2` ...
    """

    database_url: str
    broker_url: str
    env: Mapping[str, str]
    supervisor: Supervisor


@contextlib.contextmanager
def stack(
    *,
    machines: Sequence[str] | None = None,
    workers: int = 1,
    pool: str = "threads",
    concurrency: int = 8,
    queues: Sequence[str] = ("default",),
    env: Mapping[str, str] | None = None,
    log_dir: Path | None = None,
    on_end: Callable[[Ended], None] | None = None,
) -> Generator[Stack]:
    """Starts everything, and ends everything when it is left, however that happens.

    Relay and workers are still coming up when the context begins; what is committed before waits in the database.

    Args:
        machines: "module:name" entries; without them the processes read their own settings.
        workers: How many worker processes.
        pool: Celery's pool: `threads` or `prefork`.
        concurrency: Effects at once in each worker.
        queues: Those that each worker serves.
        env: Variables of the processes on top of this one's. Where DATABASE_URL or BROKER_URL is in neither, an
            embedded server takes its place.
        log_dir: Where each process writes `<its name>.log`; without it, to this one's output.
        on_end: Is told, in another thread, of each process that ends by itself; it is started again.

    Raises:
        DevServersError: An embedded server could not be started.
        StoreError: The database is away, or its tables cannot be made.
        BrokerUnavailable: The broker is away.
        ConfigurationError: An address or another setting is wrong.
    """
    given = {**os.environ, **(env or {})}
    with embedded_servers(given.get("DATABASE_URL"), given.get("BROKER_URL")) as servers:
        joined = _joined(servers, machines, env or {})
        _prepare(servers, {**given, **joined})
        with Supervisor(on_end=on_end) as supervisor:
            for name, argv in _commands(workers, pool, concurrency, queues).items():
                log = None if log_dir is None else log_dir / f"{name}.log"
                supervisor.start(name, Command(argv, env={"PYTHONUNBUFFERED": "1", **joined}, log=log))
            yield Stack(servers.database_url, servers.broker_url, joined, supervisor)


def _joined(servers: Servers, machines: Sequence[str] | None, env: Mapping[str, str]) -> dict[str, str]:
    joined = {**env, "DATABASE_URL": servers.database_url, "BROKER_URL": servers.broker_url}
    if machines is not None:
        joined["FSM_MACHINES"] = " ".join(machines)
    return joined


def _prepare(servers: Servers, environ: Mapping[str, str]) -> None:
    """Makes the tables, and asks the broker for an answer: a child's log is no place to learn that it is away."""
    from fsm_core.postgres.migrate import upgrade
    from workers.settings import read

    upgrade(servers.database_url, schema=read(environ=environ).schema)
    if servers.broker_url.startswith(("redis://", "rediss://")):
        _ask_broker(servers.broker_url)


def _ask_broker(url: str) -> None:
    import redis
    from sqlalchemy.engine import make_url

    limits = {"socket_connect_timeout": _ANSWER_TIMEOUT, "socket_timeout": _ANSWER_TIMEOUT}
    try:
        where = make_url(url).render_as_string(hide_password=True)
        client = redis.Redis.from_url(url, **limits)
    except ValueError as error:
        raise ConfigurationError("BROKER_URL is no URL; expected redis://:password@host:6379/0") from error
    try:
        client.ping()
    except redis.RedisError as error:
        raise BrokerUnavailable(str(error), where) from error
    finally:
        client.close()


def _commands(workers: int, pool: str, concurrency: int, queues: Sequence[str]) -> dict[str, list[str]]:
    names = [f"worker-{number}" for number in range(1, workers + 1)]
    relay = [sys.executable, "-m", "workers.cli.main", "relay"]
    return {"relay": relay, **{name: _worker(name, pool, concurrency, queues) for name in names}}


def _worker(name: str, pool: str, concurrency: int, queues: Sequence[str]) -> list[str]:
    celery = [sys.executable, "-m", "celery", "-A", "workers", "worker", "--loglevel", "INFO"]
    size = ["--pool", pool, "--concurrency", str(concurrency), "--hostname", f"{name}@%h"]
    return [
        *celery,
        *size,
        "--queues",
        ",".join(queues),
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    ]
