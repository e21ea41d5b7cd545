"""A connection that breaks in mid-call: the call is made once, whatever was written before it broke."""

from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from examples.door import Close, Lock, Locked, Open, door
from fsm_core.errors import DatabaseUnavailable
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.ask import Ask, run
from fsm_core.postgres.statements import Statement
from fsm_core.postgres.statements import machines as sql
from tests.store.conftest import MakeWorld
from tests.store.machines import New, Note, Serve, desk, orders
from tests.store.world import PostgresWorld, plain

OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
LOSES = psycopg.OperationalError("server closed the connection unexpectedly")


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Lose the connection at the next `times` runs of a statement, before or after the server did it.

    Returns what was lost so far.
    """

    def arrange(
        statement: Statement, *, answered: bool, times: int = 1, then: Callable[[], object] = lambda: None
    ) -> list[str]:
        lost: list[str] = []
        on, on_async = Ask.on, Ask.on_async

        def due(ask: Ask[Any]) -> bool:
            if ask.statement is not statement or len(lost) == times:
                return False
            lost.append(statement.name)
            return True

        def broken(ask: Ask[Any], connection: psycopg.Connection[Any], schema: str) -> Any:
            if not due(ask):
                return on(ask, connection, schema)
            if answered:
                on(ask, connection, schema)
            then()
            raise LOSES

        async def broken_async(ask: Ask[Any], connection: psycopg.AsyncConnection[Any], schema: str) -> Any:
            if not due(ask):
                return await on_async(ask, connection, schema)
            if answered:
                await on_async(ask, connection, schema)
            then()
            raise LOSES

        monkeypatch.setattr(Ask, "on", broken)
        monkeypatch.setattr(Ask, "on_async", broken_async)
        return lost

    return arrange


Lose = Callable[..., list[str]]


@pytest.mark.parametrize("answered", [True, False], ids=["written", "not written"])
@pytest.mark.parametrize(
    "options", [{}, {"dedup_key": "evt-1"}, {"expected_seq": 0}], ids=["plain", "dedup", "seq"]
)
def test_an_event_whose_answer_is_lost_is_applied_once(
    world: PostgresWorld, lose: Lose, options: dict[str, Any], answered: bool
) -> None:
    """Found by its call id if it was written, decided again if it was not: the caller sees the same answer."""
    world.store.start(orders, 7, New(1))
    lost = lose(sql.WRITE_ONE, answered=answered)

    snapshot = world.store.advance(orders, 7, Note(), **options)

    assert lost == ["write_one"]
    assert (snapshot.seq, snapshot.duplicate) == (1, False)
    assert [e.name for e in world.store.history(orders, 7)] == ["New", "Note"]
    assert world.sql("SELECT count(*) FROM fsm.actions") == [(2,)]


def test_a_written_event_is_found_behind_those_of_others(world: PostgresWorld, lose: Lose) -> None:
    """Between the loss and the look others may have moved the machine on."""
    world.store.start(door, "front")

    def others() -> None:
        world.sql(
            "UPDATE fsm.machines SET seq = 2, rev = rev + 1, state_name = 'Locked', state = '{\"code\": 9}'"
        )
        world.sql(
            "INSERT INTO fsm.events (machine_id, seq, name, payload, version, outcome, source, occurred_at)"
            " SELECT id, 2, 'Lock', '{\"code\": 9}', 1, 'applied', 'call', updated_at FROM fsm.machines"
        )

    lose(sql.WRITE_ONE, answered=True, then=others)

    snapshot = world.store.advance(door, "front", Close())

    assert (snapshot.seq, snapshot.state) == (1, Locked(9))
    assert [e.name for e in world.store.history(door, "front")] == ["Opened", "Close", "Lock"]


@pytest.mark.parametrize("answered", [True, False], ids=["written", "not written"])
def test_a_held_event_whose_answer_is_lost_is_held_once(
    world: PostgresWorld, lose: Lose, answered: bool
) -> None:
    """The inbox is looked through as well as the log."""
    world.store.start(desk, 1)
    lost = lose(sql.WRITE_MANY, answered=answered)

    assert world.store.advance(desk, 1, Serve("ann")).held

    assert lost == ["write_many"]
    assert [row["payload"] for row in world.contents()["inbox"]] == [{"name": "ann"}]
    assert world.store.record(desk, 1).held == 1


@pytest.mark.parametrize("answered", [True, False], ids=["written", "not written"])
def test_a_birth_whose_answer_is_lost_is_no_duplicate(
    world: PostgresWorld, lose: Lose, answered: bool
) -> None:
    """It was this very call that started the machine."""
    lost = lose(sql.START, answered=answered)

    started = world.store.start(door, "front")

    assert lost == ["start"]
    assert (started.seq, started.duplicate) == (0, False)
    assert world.sql("SELECT count(*) FROM fsm.actions") == [(1,)]
    assert world.store.start(door, "front").duplicate


def test_an_operators_cancel_whose_transaction_is_lost_is_made_again(
    world: PostgresWorld, lose: Lose
) -> None:
    """What was written before the COMMIT is gone with the connection."""
    world.store.start(orders, 7, New(1))
    lose(sql.CANCEL, answered=True)

    assert world.store.cancel(orders, 7) == 0
    assert world.store.get(orders, 7).status == "cancelled"


@pytest.mark.parametrize(("end", "became"), [("COMMIT", True), ("ROLLBACK", False)])
def test_a_transaction_tells_what_became_of_it(engine: Engine, end: str, became: bool) -> None:
    """Once its COMMIT has arrived, or never will. Until then nobody knows, and the call is not made again."""
    store = PostgresStore(engine)
    store.start(door, "front")

    def asked(xid: str) -> bool:
        return store._once("ask", partial(store._committed, xid))

    with psycopg.connect(plain(engine.url.render_as_string(hide_password=False))) as other:
        xid = run(other, "fsm", store._begun())
        with pytest.raises(DatabaseUnavailable, match="is not known yet"):
            asked(xid)
        other.execute(end.encode())

    assert asked(xid) is became


def test_a_connection_that_breaks_again_and_again_is_given_up(world: PostgresWorld, lose: Lose) -> None:
    """Bounded: the error says what was being done, and nothing is half done."""
    world.store.start(door, "front")
    before = world.contents()
    lost = lose(sql.READ, answered=False, times=100)

    with pytest.raises(DatabaseUnavailable, match="advance door/front: the database does not answer"):
        world.store.advance(door, "front", Close())

    assert 1 < len(lost) < 10
    assert world.contents() == before


def test_a_server_that_ended_every_idle_connection_is_not_noticed_by_callers(make_world: MakeWorld) -> None:
    """The pool is full of dead connections: the next call of each verb succeeds all the same."""
    world = make_world(engine={"pool_size": 3})
    calls: list[Callable[[], Any]] = [
        lambda: world.store.start(door, "back"),
        lambda: world.store.advance(door, "front", Close()),
        lambda: world.store.advance(door, "front", Open()),
        lambda: world.store.get(door, "front"),
        lambda: world.store.history(door, "front"),
        lambda: world.store.cancel(door, "back"),
    ]
    world.store.start(door, "front")
    for call in calls:
        assert world.sql(OTHERS)
        call()

    assert world.store.get(door, "front").seq == 2
    assert world.store.advance(door, "front", Lock(1)).seq == 3


def test_a_connection_that_broke_under_many_events_is_thrown_away(
    world: PostgresWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """Each event looks for itself on another one. Nobody tries to tidy up the one that is gone."""
    world.store.start(orders, 7, New(1))
    assert world.sql(OTHERS)

    (answer,) = world.store.advance_many(orders, [(7, Note())])

    assert answer.seq == 1
    assert [record.message for record in caplog.records if record.name.startswith("sqlalchemy")] == []
