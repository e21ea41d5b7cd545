"""What the processes' conduct is judged by: each check finds what it is for, and nothing in what is as it should be."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from chaos import conduct, gauges
from chaos.evidence import Evidence
from chaos.mutants import small
from chaos.remains import Action
from chaos.servers import Postgres, Valkey
from fsm_core.postgres.migrate import upgrade

HEALED = 1000.0
PLAN = replace(small("conduct", 1, 1, 1.0), lease=4.0)
DONE = Action("m.1.0", "job", "a", "Work", "completed", 1, 0, True, None, 0, HEALED - 5, HEALED + 19.5)


def recovered(tmp_path: Path, *actions: Action, after: float | None = 20.0) -> list[str]:
    evidence = Evidence(PLAN, tmp_path, "", healed=HEALED, healed_after=after)
    return conduct.recovered(evidence, {each.id: each for each in actions}).failures


def test_what_was_open_at_the_last_fault_has_a_lease_a_sweep_and_ten_seconds(tmp_path: Path) -> None:
    """4 + 6 + 10; a message that was sent again once is looked for after 10 s instead of 5."""
    assert recovered(tmp_path, DONE) == []
    assert recovered(tmp_path, replace(DONE, finished=HEALED + 20.5)) != []
    assert recovered(tmp_path, replace(DONE, finished=HEALED + 20.5, publishes=1)) == []
    assert recovered(tmp_path, replace(DONE, finished=HEALED + 25.5, publishes=1)) != []


def test_what_never_ends_or_waits_beyond_the_patience_is_found(tmp_path: Path) -> None:
    assert recovered(tmp_path, replace(DONE, finished=None, status="published")) != []
    assert recovered(tmp_path, DONE, after=None) != []


def test_what_came_later_or_waits_for_the_operator_is_not_timed(tmp_path: Path) -> None:
    later = replace(DONE, created=HEALED + 1, finished=HEALED + 60)
    assert recovered(tmp_path, later, replace(DONE, id="m.2.0", name="Doomed", finished=HEALED + 60)) == []


TRACEBACK = """\
[2026-11-22 13:53:11,001: WARNING/MainProcess] no heartbeat: the database does not answer
Traceback (most recent call last):
  File "x.py", line 1, in f
    g()
[2026-11-22 13:53:11,002: WARNING/ForkPoolWorker-2] somebody else says something
{}
"""


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (TRACEBACK.format("KeyError: 'x'"), ["KeyError: 'x'"]),
        (TRACEBACK.format("psycopg.OperationalError: the connection is lost"), []),
        (TRACEBACK.format("redis.exceptions.ConnectionError: Connection closed by server."), []),
        (TRACEBACK.format("ConnectionResetError: [Errno 104] Connection reset by peer"), []),
        (TRACEBACK.format("TimeoutError: timed out"), []),
        (TRACEBACK.format("redis.exceptions.ResponseError: WRONGTYPE"), ["redis.exceptions.ResponseError: WRONGTYPE"]),
        ("Traceback (most recent call last):\n  File", ["a traceback without an end"]),
        ("[1: ERROR/MainProcess] the heartbeat failed", ["the heartbeat failed"]),
        ("[1: ERROR] the lease of worker 1a-2b was taken away; what it runs is void", []),
        ("[1: CRITICAL/MainProcess] Unrecoverable error: X()", ["Unrecoverable error: X()"]),
        ("[1: CRITICAL/MainProcess] Unrecoverable error: WorkerLostError('Could not start worker processes')", []),
        ("[1: WARNING/MainProcess] nothing could be claimed: the database does not answer", []),
        ("[1: WARNING/MainProcess] a message that is none of ours was dropped", ["[1: WARNING/MainProcess] a message that is none of ours was dropped"]),
    ],
)  # fmt: skip
def test_a_log_may_tell_of_the_expected_errors_and_of_no_others(said: str, found: list[str]) -> None:
    assert list(conduct.unexpected(said.splitlines())) == found


def test_a_process_has_the_connections_of_its_settings_and_leaves_none() -> None:
    plan = replace(PLAN, workers={"threads": "threads", "prefork": "prefork"})
    good = {"threads": 7, "prefork": 9, "relay-0": 4}

    assert conduct.connections(plan, good, 0).failures == []
    assert len(conduct.connections(plan, {"threads": 8, "prefork": 10, "relay-0": 5}, 0).failures) == 3
    assert len(conduct.connections(plan, {"submitter-0": 1}, 0).failures) == 1
    assert len(conduct.connections(plan, good, 1).failures) == 1


@pytest.fixture
def database(breakable: tuple[Postgres, Valkey]) -> Iterator[tuple[Postgres, str]]:
    postgres, _ = breakable
    name = f"conduct_{time.time_ns()}"
    with postgres.connect() as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        upgrade(postgres.url(name))
        yield postgres, name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_connections_are_counted_by_the_process_that_has_them(database: tuple[Postgres, str]) -> None:
    postgres, name = database
    address = postgres.url(name).replace("+psycopg", "")
    with psycopg.connect(address, application_name="threads"):
        assert gauges.connections(postgres, name, bool) == {"threads": 1}
    assert gauges.connections(postgres, name, lambda open_: not open_) == {}


def test_dead_rows_that_somebody_may_still_see_are_found(database: tuple[Postgres, str]) -> None:
    """A transaction that is left open keeps them; when it is over, they can be removed."""
    postgres, name = database
    before = gauges.dead_rows(postgres, name)
    with postgres.connect(name) as old, postgres.connect(name) as writer:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM fsm.dedup")
        writer.execute(
            "INSERT INTO fsm.workers (id, kind, host, pid, queues, known, claimed, started_at, alive_until)"
            " SELECT gen_random_uuid(), 'relay', 'h', n, '{}', '{}', '{}', now(), now() FROM generate_series(1, 60) n"
        )
        writer.execute("UPDATE fsm.workers SET pid = pid + 1")
        held = gauges.dead_rows(postgres, name)
        old.execute("COMMIT")
        free = gauges.dead_rows(postgres, name)

    assert len(conduct.vacuum(before, held).failures) == 1
    assert conduct.vacuum(before, free).failures == []


def test_a_process_that_lives_on_may_warm_up_but_not_grow() -> None:
    warm = [50 + n for n in range(20)] + [100, 103] * 30
    grown = [100 + n // 4 for n in range(80)]

    assert conduct.memory({("steady", 1): warm}).failures == []
    assert len(conduct.memory({("steady", 1): grown}).failures) == 1
    assert conduct.memory({("steady", 1): grown[:39]}).trials == 0


def test_a_process_that_nobody_kills_does_not_end() -> None:
    assert conduct.memory({("steady", 1): [100], ("steady", 2): [100]}).failures == [
        "steady has ended though nobody killed it"
    ]
