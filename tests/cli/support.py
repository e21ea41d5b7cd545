"""What the tests of the command line share."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Engine, text


class Answer(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Fsm = Callable[..., Answer]
Refuses = Callable[..., str]


def everything(engine: Engine) -> dict[str, list[str]]:
    """Every row of the tables that a command could change, as text."""
    tables = ("machines", "events", "actions", "attempts", "inbox", "dedup")
    with engine.connect() as connection:
        return {
            table: [
                row[0] for row in connection.execute(text(f"SELECT t::text FROM fsm.{table} t ORDER BY 1"))
            ]
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
