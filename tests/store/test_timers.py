"""Timers as rows: set, replaced, cancelled and ended in the transaction of the event that does it."""

import pytest
from sqlalchemy import Engine, text

from fsm_core import ActionStatus, Timeout
from fsm_core.errors import UnknownType
from fsm_core.postgres import PostgresStore
from tests.workers.clock import Arm, Disarm, Rest, Ring, Work, clock


def timers(engine: Engine) -> list[tuple[str, str]]:
    with engine.connect() as connection:
        query = "SELECT timer, status FROM fsm.actions WHERE timer IS NOT NULL ORDER BY seq, idx"
        return [(row[0], row[1]) for row in connection.execute(text(query))]


def test_setting_a_timer_again_replaces_it(engine: Engine) -> None:
    store = PostgresStore(engine)
    store.start(clock, "a")

    store.advance(clock, "a", Arm(60, 1))
    store.advance(clock, "a", Arm(90, 1))

    assert timers(engine) == [("ring", "cancelled"), ("ring", "pending")]


def test_cancel_ends_a_timer_without_its_event(engine: Engine) -> None:
    """And does nothing if none is open."""
    store = PostgresStore(engine)
    store.start(clock, "a")
    store.advance(clock, "a", Disarm())

    store.advance(clock, "a", Arm(60, 1))
    store.advance(clock, "a", Disarm())

    assert timers(engine) == [("ring", "cancelled")]


def test_a_state_timeout_ends_with_its_state(engine: Engine) -> None:
    """It begins again when the state is entered again."""
    store = PostgresStore(engine)
    store.start(clock, "a")

    store.advance(clock, "a", Work())
    store.advance(clock, "a", Rest())
    assert timers(engine) == [("state:Busy", "cancelled")]

    store.advance(clock, "a", Work())
    store.advance(clock, "a", Arm(60, 1))  # the state keeps its class: its timeout goes on
    assert timers(engine) == [("state:Busy", "cancelled"), ("state:Busy", "pending"), ("ring", "pending")]


def test_a_timer_waits_for_its_time(engine: Engine) -> None:
    """Due by the database's clock, beside rows that are due now."""
    store = PostgresStore(engine)
    store.start(clock, "a")

    store.advance(clock, "a", Arm(60, 1))

    (action,) = store.actions()
    assert (action.name, action.status) == ("After", ActionStatus.PENDING)
    assert action.payload == {"event": "Ring", "payload": {"every": 60.0, "left": 0}, "name": "ring"}
    assert 59 < (action.run_at - action.created_at).total_seconds() < 61


def test_a_timeout_from_outside_is_refused(engine: Engine) -> None:
    """Only the engine makes one."""
    store = PostgresStore(engine)
    store.start(clock, "a")
    store.advance(clock, "a", Work())

    with pytest.raises(UnknownType, match="Timeout"):
        store.advance(clock, "a", Timeout("Busy"))  # type: ignore[type-var]

    assert store.get(clock, "a").seq == 1


def test_cancelling_the_machine_ends_its_timers(engine: Engine) -> None:
    store = PostgresStore(engine)
    store.start(clock, "a")
    store.advance(clock, "a", Arm(60, 3))

    assert store.cancel(clock, "a") == 1
    assert timers(engine) == [("ring", "cancelled")]


def test_an_event_of_its_own_is_no_timer(engine: Engine) -> None:
    """What a timer brings may also be sent by hand; the timer goes on."""
    store = PostgresStore(engine)
    store.start(clock, "a")
    store.advance(clock, "a", Arm(60, 1))

    store.advance(clock, "a", Ring(1, 0))

    assert timers(engine) == [("ring", "pending")]
