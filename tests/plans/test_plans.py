"""No hot statement reads a table or sorts the backlog, whatever the planner knows: run as it is run, and judged by what it did."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from fsm_core.postgres import engine as engines
from fsm_core.postgres.ask import Ask
from fsm_core.postgres.migrate import upgrade
from fsm_core.postgres.statements import Statement, relay
from tests.conftest import administer, at_database, passing_database
from tests.plans.calls import EVERYTHING, Calls
from tests.plans.explaining import Recorder
from tests.plans.filling import SMALL, analyze, bear, fill, pile_up, prepare, record
from tests.plans.rules import broken, hot_statements
from tests.store.world import plain
from workers.dev.servers import Servers

SITUATIONS: dict[str, tuple[Callable[[psycopg.Connection[Any]], object], ...]] = {
    "fresh": (lambda c: pile_up(c, SMALL), analyze),
    "of an empty queue": (analyze, lambda c: pile_up(c, SMALL)),
    "never analyzed": (lambda c: pile_up(c, SMALL),),
}
"""What the planner knows: statistics of now; of a moment at which nothing was to be done, its worst trap; none at all."""


@pytest.fixture(scope="module")
def history(servers: Servers) -> Iterator[str]:
    """The name of a database with what has been, and nothing to do."""
    name = f"fsm_plans_{uuid.uuid4().hex[:12]}"
    administer(servers.database_url, "CREATE DATABASE {}", name)
    try:
        url = at_database(servers.database_url, name)
        upgrade(url)
        with psycopg.connect(plain(url), autocommit=True) as connection:
            prepare(connection)
            fill(connection, SMALL)
        yield name
    finally:
        administer(servers.database_url, "DROP DATABASE {} WITH (FORCE)", name)


@contextmanager
def recorded(
    servers: Servers, history: str, situation: str, *, own: bool
) -> Iterator[tuple[Recorder, Calls]]:
    """A database in that situation, and what is heard of it."""
    for url in passing_database(servers, "CREATE DATABASE {} TEMPLATE {}", history):
        with psycopg.connect(plain(url), autocommit=True) as connection:
            for step in SITUATIONS[situation]:
                step(connection)
        recorder = Recorder(url)
        engines = recorder.engine(own=own), recorder.engine(own=True)
        try:
            with recorder.listening():
                yield recorder, Calls(url, *engines)
        finally:
            for engine in engines:
                engine.dispose()


@pytest.mark.parametrize("own", [True, False], ids=["planned once", "planned for the values"])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_no_statement_reads_more_than_its_batch(
    servers: Servers, history: str, situation: str, own: bool
) -> None:
    """Not one sequential scan, no sort of the backlog, and the index that was made for it."""
    with recorded(servers, history, situation, own=own) as (recorder, calls):
        for name in EVERYTHING:
            getattr(calls, name)()

    assert sorted(set(broken(recorder.seen))) == []
    assert hot_statements() - {each.statement.name for each in recorder.seen} == set()


@pytest.mark.parametrize("born", [False, True], ids=["nothing is there", "machines are there"])
def test_a_plan_of_the_first_day_does_no_harm(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, born: bool
) -> None:
    """A relay and a worker plan each statement once, on tables known to be empty; in time they plan anew as those grow, unasked."""
    monkeypatch.setattr(engines, "REPLAN_FIRST", 0.0)
    for url in passing_database(servers, "CREATE DATABASE {}"):
        upgrade(url)
        recorder = Recorder(url)
        engine = recorder.engine(own=True)
        with recorder.listening(), psycopg.connect(plain(url), autocommit=True) as connection:
            prepare(connection)
            if born:
                bear(connection, SMALL)
            analyze(connection)
            Calls(url, engine, engine).idle()
            planned = {each.statement.name for each in recorder.seen}
            recorder.seen.clear()
            if not born:
                bear(connection, SMALL)
            record(connection)
            pile_up(connection, SMALL)
            for name in ("relays", "workers", "families"):
                getattr(Calls(url, engine, engine), name)()
        engine.dispose()

    assert sorted(set(broken(recorder.seen))) == []
    assert {"publish", "claim", "move", "write_many", "read_many", "requeue_dead", "cut"} <= planned


@pytest.fixture(scope="module")
def heard(servers: Servers, history: str) -> Iterator[tuple[Recorder, Calls]]:
    with recorded(servers, history, "of an empty queue", own=True) as found:
        yield found


A_SCAN = "SELECT count(*) FROM {s}.actions WHERE status || '' = 'published' AND queue = %(queue)s"
A_SORT = """SELECT machine_id FROM {s}.actions WHERE status = 'pending' AND queue = %(queue)s AND run_at <= now()
 ORDER BY created_at, machine_id LIMIT 10"""
ANOTHER_INDEX = "SELECT count(*) FROM {s}.actions WHERE machine_id = ANY (SELECT id FROM {s}.machines LIMIT 10) AND %(queue)s <> ''"
TIMERS_OF_ALL = """WITH m AS MATERIALIZED (SELECT id FROM {s}.machines WHERE fsm = %(queue)s LIMIT 1)
SELECT count(*) FROM m JOIN {s}.actions t ON t.machine_id = m.id AND t.timer IS NOT NULL AND t.status IN ('pending', 'published')"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(A_SCAN, "window reads the whole of actions", id="a scan"),
        pytest.param(A_SORT, "window sorts 10200 rows", id="a sort"),
        pytest.param(ANOTHER_INDEX, "window does not use actions_published", id="another index"),
        pytest.param(TIMERS_OF_ALL, "window looks at 4000 rows", id="all timers, as it was once"),
    ],
)
def test_a_plan_that_is_wrong_is_seen(servers: Servers, history: str, text: str, told: str) -> None:
    """The rules have teeth: a statement in the place of another that reads a table, a backlog, or by the wrong index."""
    wrong = Statement(relay.WINDOW.name, text)

    with recorded(servers, history, "of an empty queue", own=True) as (recorder, calls):
        calls.outbox._ask("window", Ask(wrong, {"queue": "parcel" if "fsm" in text else "default"}, len))

    assert told in set(broken(recorder.seen))
