"""What one event, one tick and one repair may be: somebody who sends too much costs the others no more than that."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from fsm_core.delivery.ports import Queue
from fsm_core.delivery.relay import MOST_IDS, WINDOW_MOST, Relay
from fsm_core.errors import Overloaded, TransitionError
from fsm_core.payload import Limits
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.flows.advance import Call
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.registry import Registry
from fsm_core.rows import MAX_ACTIONS
from tests.cli.support import everything
from tests.delivery.calls import Make, calls
from tests.delivery.test_limits import ask
from tests.delivery.test_relay import FakeBroker
from tests.store.counters import Bump, Sum, notes

SLOTS = 4
A_MESSAGE = 4096
"""Bytes: fifty ids and a ticket."""


@pytest.fixture
def store(engine: Engine) -> PostgresStore:
    store = PostgresStore(engine, machines=[calls])
    store.start(calls, "m")
    return store


def test_an_event_emits_a_thousand_actions_and_no_more(engine: Engine, store: PostgresStore) -> None:
    """One more, and the whole event is refused: nothing of it is written."""
    store.advance(calls, "m", Make(MAX_ACTIONS, limit=None))
    before = everything(engine)

    with pytest.raises(TransitionError, match="emits 1001 actions, the limit is 1000"):
        store.advance(calls, "m", Make(MAX_ACTIONS + 1, limit=None))

    assert everything(engine) == before


def test_however_many_call_at_once_no_more_get_in_than_the_cap(engine: Engine) -> None:
    """The load is counted under the guard of the decision: of two who see the last place, one decides again."""
    capped = PostgresStore(engine, limits=Limits(events=50, per=timedelta(hours=1)))
    capped.start(notes, "hot")

    def call(_number: int) -> bool:
        with suppress(Overloaded):
            capped.advance(notes, "hot", Bump())
            return True
        return False

    with ThreadPoolExecutor(8) as threads:
        taken = sum(threads.map(call, range(200)))

    assert taken == 49  # and its birth
    assert capped.get(notes, "hot").state == Sum(49)


@pytest.mark.parametrize(("cause", "capped"), [(None, True), ("an action", False)])
def test_only_callers_are_capped(cause: str | None, capped: bool) -> None:
    """Not what an action brings along from another database."""
    call = Call(Registry(), notes, "hot", Bump(), Limits(events=1), cause=cause)

    assert call.capped is capped


def test_a_backlog_reaches_the_broker_a_window_at_a_time(engine: Engine, store: PostgresStore) -> None:
    """Nobody takes anything: of 5,000 due rows no more than the window leave the database, in messages of ids alone, each small."""
    for _ in range(5):
        store.advance(calls, "m", Make(1000, limit=None))
    broker = FakeBroker()
    relay = Relay(PostgresOutbox(engine), broker, uuid4)
    queues = {"default": Queue(SLOTS, None)}

    sizes = [relay.tick(queues, admit=True).published for _ in range(20)]

    assert sum(sizes) <= WINDOW_MOST
    assert sum(sizes) == ask(engine, "SELECT count(*) FROM fsm.actions WHERE status = 'published'")[0][0]
    assert sizes[-1] == 0
    assert 0 < max(len(message.ids) for message in broker.sent) <= MOST_IDS
    for message in broker.sent:
        body = json.dumps([str(message.ticket), [str(each) for each in message.ids], message.label])
        assert len(body) < A_MESSAGE


def test_a_window_never_grows_beyond_its_bound(engine: Engine, store: PostgresStore) -> None:
    """Workers that take all at once make it grow: up to 2,000 rows, and no message of more than fifty ids."""
    for _ in range(6):
        store.advance(calls, "m", Make(1000, limit=None))
    broker = FakeBroker()
    relay = Relay(PostgresOutbox(engine), broker, uuid4)
    published = []
    for _ in range(30):
        published.append(relay.tick({"default": Queue(SLOTS, None)}, admit=True).published)
        with engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE fsm.actions SET status = 'completed', finished_at = now() WHERE status = 'published'"
                )
            )

    assert sum(published) == 6000
    assert 500 < max(published) <= WINDOW_MOST
    assert max(len(message.ids) for message in broker.sent) == MOST_IDS


def test_a_repair_is_done_in_parts(engine: Engine, store: PostgresStore) -> None:
    """What a dead worker ran goes back 500 rows at a time: no long transaction, and no flood of what comes back."""
    store.advance(calls, "m", Make(1000, limit=None))
    outbox = PostgresOutbox(engine)
    ticket = uuid4()
    outbox.claim(uuid4(), [row.id for row in outbox.publish("default", 1000, ticket)], ticket, uuid4())

    assert [outbox.requeue_dead() for _ in range(3)] == [500, 500, 0]
