"""The command line as a user meets it: arguments in; exit status, standard output and standard error out."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine, text

from fsm_core.postgres import PostgresStore
from workers.cli.main import main

MACHINES = (
    "examples.door:door tests.cli.machines:turnstile tests.cli.machines:patient "
    "tests.cli.machines:old tests.cli.machines:new"
)


class Answer(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Fsm = Callable[..., Answer]
Refuses = Callable[..., str]


@pytest.fixture
def fsm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, database_url: str) -> Fsm:
    """Runs `fsm` in this process, on the test's own database."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("FSM_MACHINES", MACHINES)

    def run(*arguments: str, stdin: str | bytes = b"") -> Answer:
        given = stdin if isinstance(stdin, bytes) else stdin.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        capsys.readouterr()
        status = main(arguments)
        return Answer(status, *capsys.readouterr())

    return run


@pytest.fixture
def refuses(fsm: Fsm, engine: Engine) -> Refuses:
    """Runs `fsm`, which must refuse with exit status 2 and one line, and change nothing; gives that line."""

    def run(*arguments: str, stdin: str | bytes = b"") -> str:
        before = everything(engine)
        status, out, err = fsm(*arguments, stdin=stdin)
        assert (status, out) == (2, "")
        assert err.startswith("fsm: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert everything(engine) == before
        return err.removeprefix("fsm: ").removesuffix("\n")

    return run


@pytest.fixture
def store(engine: Engine) -> Iterator[PostgresStore]:
    return PostgresStore(engine)


def everything(engine: Engine) -> dict[str, list[str]]:
    """Every row of the tables that a command could change, as text."""
    tables = ("machines", "events", "actions", "attempts", "inbox", "dedup")
    with engine.connect() as connection:
        return {
            table: [row[0] for row in connection.execute(text(f"SELECT t::text FROM fsm.{table} t ORDER BY 1"))]
            for table in tables
        }


def fail(engine: Engine, key: str, seq: int, error: str = "OSError: no IRC") -> str:
    """Marks an action of the door `key` as failed after two attempts, as a worker would; gives its id."""
    attempt = """
        INSERT INTO fsm.attempts (machine_id, seq, idx, token, attempt, started_at, ended_at, outcome, error)
        SELECT a.machine_id, a.seq, a.idx, gen_random_uuid(), 1, now() - interval '9 s', now() - interval '8 s', 'error',
               jsonb_build_object('message', :error ::text)
          FROM fsm.actions a JOIN fsm.machines m ON m.id = a.machine_id WHERE m.key = :key AND a.seq = :seq"""
    action = """
        UPDATE fsm.actions a SET status = 'failed', attempt = 2, started_at = now() - interval '20 ms', finished_at = now(),
               error = jsonb_build_object('message', :error ::text)
          FROM fsm.machines m WHERE m.id = a.machine_id AND m.key = :key AND a.seq = :seq
        RETURNING concat_ws('.', a.machine_id, a.seq, a.idx)"""
    given = {"key": key, "seq": seq, "error": error}
    with engine.begin() as connection:
        connection.execute(text(attempt), given)
        return str(connection.execute(text(action), given).scalar_one())
