"""Embedded servers for development, the demo and the tests: a real PostgreSQL and a real Valkey, private and passing.

Whatever happens to the process that asks for them, no server and no directory stays behind: they belong to a guardian
process that watches the asker (`workers.dev.guardian`).
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass

from workers.dev.errors import DevServersError

__all__ = ["DevServersError", "Servers", "embedded_servers"]

_STOP_TIMEOUT = 40.0


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers are.

    Attributes:
        database_url: PostgreSQL's, as SQLAlchemy spells it (`postgresql+psycopg://...`).
        broker_url: Valkey's.
    """

    database_url: str
    broker_url: str


@contextlib.contextmanager
def embedded_servers(database_url: str | None = None, broker_url: str | None = None) -> Generator[Servers]:
    """Servers that live as long as the context; those that are given are used as they are.

    A child that is forked without exec inherits the pipe that the guardian watches. It does not keep the servers
    alive, as the guardian also looks whether the asker itself is still its parent.

    Args:
        database_url: A PostgreSQL to use instead of an embedded one.
        broker_url: A Redis or Valkey to use instead of an embedded one.

    Yields:
        Where both are.

    Raises:
        DevServersError: An embedded server could not be started; the message has the tail of its log.
    """
    if database_url and broker_url:
        yield Servers(database_url, broker_url)
        return
    guardian = _start_guardian(postgres=not database_url, valkey=not broker_url)
    asker = os.getpid()
    try:
        answer = _answer(guardian)
        yield Servers(database_url or answer["database_url"], broker_url or answer["broker_url"])
    finally:
        # A forked child that leaves this context on its way out has nothing to end here.
        if os.getpid() == asker:
            _stop_guardian(guardian)


def _start_guardian(*, postgres: bool, valkey: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "workers.dev.guardian", "--asker", str(os.getpid())]
    command += ["--postgres"] * postgres + ["--valkey"] * valkey
    # Both pipes are close-on-exec, as Python makes them: no program that the asker runs inherits them.
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)


def _answer(guardian: subprocess.Popen[bytes]) -> dict[str, str]:
    """The guardian's one line; each of its steps has a time limit, so this ends."""
    assert guardian.stdout is not None  # noqa: S101 - asked for above
    line = guardian.stdout.readline()
    if not line:
        raise DevServersError(f"the servers' guardian ended without a word (exit status {guardian.wait()})")
    answer: dict[str, str] = json.loads(line)
    if "error" in answer:
        raise DevServersError(answer["error"])
    return answer


def _stop_guardian(guardian: subprocess.Popen[bytes]) -> None:
    """Asks it to end and waits until its servers are gone, also through a second Ctrl-C."""
    guardian.terminate()
    for pipe in (guardian.stdin, guardian.stdout):
        if pipe is not None:
            pipe.close()
    interrupted = False
    while guardian.poll() is None:
        try:
            guardian.wait(_STOP_TIMEOUT)
        except KeyboardInterrupt:
            interrupted = True
        except subprocess.TimeoutExpired:
            # Its servers are on a leash: they end with it.
            guardian.kill()
    if interrupted:
        raise KeyboardInterrupt
