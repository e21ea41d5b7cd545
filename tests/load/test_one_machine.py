"""A thousand calls at once on one machine: row 26 of the fault matrix."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import Engine, text

from fsm_core.postgres import PostgresStore
from tests.load.hammer import KEY, Done
from tests.store.counters import Sum, notes
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
CALLS, CONNECTIONS = 250, 8
HAMMERS = ("threads", "tasks", "threads", "tasks")
ALL = CALLS * len(HAMMERS)


class Hammer:
    """A process that makes its calls when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout

    def ready(self) -> None:
        assert self._out.readline() == "ready\n"

    def begin(self) -> None:
        self._in.write("\n")
        self._in.flush()

    def done(self) -> Done:
        found: Done = json.loads(self._out.readline())
        return found


@contextmanager
def hammer(how: str, database_url: str) -> Iterator[Hammer]:
    command = [sys.executable, "-m", "tests.load.hammer", how, str(CALLS), str(CONNECTIONS)]
    env = {**os.environ, "DATABASE_URL": database_url}
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Hammer(process)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0


def sessions(engine: Engine, condition: str) -> int:
    """How many other sessions of this database there are."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND {condition}"
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def test_a_thousand_calls_at_once_leave_a_gapless_log(engine: Engine, database_url: str) -> None:
    """From threads and from tasks, in four processes: each is accepted once, as one of 1..1000, and no connection is left in use.

    A call that is answered by a typed conflict has changed nothing and is made again; anything else fails the process.
    """
    store = PostgresStore(engine)
    store.start(notes, KEY)

    with ExitStack() as stack:
        hammers = [stack.enter_context(hammer(how, database_url)) for how in HAMMERS]
        for each in hammers:
            each.ready()
        for each in hammers:
            each.begin()
        answers = [each.done() for each in hammers]
        in_transaction = sessions(engine, "(state LIKE 'idle in transaction%' OR xact_start IS NOT NULL)")
        connected = sessions(engine, "true")

    accepted = [seq for answer in answers for seq in answer["seqs"]]
    assert sorted(accepted) == list(range(1, ALL + 1)), [answer["refused"] for answer in answers]
    now = store.get(notes, KEY)
    assert (now.seq, now.state) == (ALL, Sum(ALL))
    assert [entry.seq for entry in store.history(notes, KEY)] == list(range(ALL + 1))
    assert [answer["checked_out"] for answer in answers] == [0] * len(HAMMERS)
    assert in_transaction == 0
    assert connected <= CONNECTIONS * len(HAMMERS)
    eventually(lambda: sessions(engine, "true") == 0, what="the connections are closed")
