"""The command line as a user meets it: arguments in; exit status, standard output and standard error out."""

import io
import sys

import pytest
from sqlalchemy import Engine

from fsm_core.postgres import PostgresStore
from tests.cli.support import Answer, Fsm, Refuses, everything
from workers.cli.main import main

MACHINES = (
    "examples.door:door tests.cli.machines:turnstile tests.cli.machines:patient "
    "tests.cli.machines:old tests.cli.machines:new"
)


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
def store(engine: Engine) -> PostgresStore:
    return PostgresStore(engine)
