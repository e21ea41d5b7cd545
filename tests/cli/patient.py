"""What the tests of `fsm doctor` examine: an installation that is well, until a fault is made in it."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine

from fsm_core.delivery.ports import Cursor
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from tests.cli.support import Answer, Fsm
from tests.delivery.calls import Make, calls
from tests.store.world import plain

LEASE = timedelta(minutes=5)


@dataclass
class Patient:
    """An installation that is well: a relay, and a worker that serves `default` and reads what there is."""

    fsm: Fsm
    store: PostgresStore
    outbox: PostgresOutbox
    url: str

    def __post_init__(self) -> None:
        self.relay, self.worker = uuid4(), uuid4()
        known = {"calls": [1], "desk": [1]}
        self.outbox.register(self.relay, kind="relay", host="a", pid=1, queues={}, known={}, lease=LEASE)
        self.outbox.register(
            self.worker, kind="node", host="b", pid=2, queues={"default": 4}, known=known, lease=LEASE
        )

    def sql(self, statement: str, *given: object) -> None:
        with psycopg.connect(plain(self.url), autocommit=True) as connection:
            connection.execute(statement.encode(), given or None)

    def emit(self, make: Make | None = None) -> None:
        """One action of the machine `calls`; by itself it is due at once."""
        self.store.start(calls, "m")
        self.store.advance(calls, "m", make or Make(limit=None))

    def long_ago(self, column: str) -> None:
        self.sql(f"UPDATE fsm.actions SET {column} = {column} - interval '10 min'")

    def admit(self) -> None:
        self.outbox.admit(Cursor())

    def publish(self) -> None:
        (self.row,) = self.outbox.publish("default", 1, self.ticket)

    def run(self) -> None:
        self.outbox.claim(self.worker, [self.row.id], self.ticket, uuid4())

    ticket = uuid4()

    def examined(self, *arguments: str) -> tuple[Answer, dict[str, list[str]]]:
        """The answer; and what is not well: code -> severity and message of each finding."""
        answer = self.fsm("doctor", "--json", *arguments)
        assert answer.err == ""
        found: dict[str, list[str]] = {}
        for each in answer.json:
            if each["severity"] != "ok":
                said = f"{each['severity']}: {each['message']}"
                found.setdefault(each["code"], []).append(said)
        return answer, found


@pytest.fixture
def patient(
    fsm: Fsm, engine: Engine, database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> Patient:
    monkeypatch.setenv("BROKER_URL", broker_url)
    return Patient(fsm, PostgresStore(engine), PostgresOutbox(engine), database_url)
