"""The relay's tick on a real store and a broker that does what the test says."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from fsm_core import ActionStatus
from fsm_core.delivery.ports import Message, Published, Queue
from fsm_core.delivery.reconcile import Repaired, reconcile
from fsm_core.delivery.relay import Relay, Window, messages
from fsm_core.errors import BrokerUnavailable
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.types import ActionId
from tests.workers.jobs import Do, Shout, jobs

QUEUES = {"default": Queue(4, None)}


class FakeBroker:
    """Keeps what it is given; `down` makes it refuse, after `takes` messages of a call."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.down = False
        self.takes = 0
        self.empty = True

    def publish(self, queue: str, messages: Sequence[Message]) -> None:
        if self.down:
            self.sent += messages[: self.takes]
            raise BrokerUnavailable("refused", "redis://nowhere")
        self.sent += messages

    def depth(self, queue: str) -> int:
        return 0 if self.empty else len(self.sent)

    def ping(self) -> None:
        if self.down:
            raise BrokerUnavailable("refused", "redis://nowhere")

    @property
    def ids(self) -> list[ActionId]:
        return [i for message in self.sent for i in message.ids]


def set_up(
    engine: Engine, plans: Sequence[str], *, lane: str | None = None
) -> tuple[PostgresStore, Relay, FakeBroker]:
    store, broker = PostgresStore(engine), FakeBroker()
    store.start(jobs, "a")
    store.advance(jobs, "a", Do(tuple(plans), lane=lane))
    return store, Relay(PostgresOutbox(engine), broker, uuid4), broker


def age(engine: Engine, seconds: float) -> None:
    """Let what is published have been published that long ago."""
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE fsm.actions SET published_at = published_at - :s * interval '1 s'"), {"s": seconds}
        )


def statuses(store: PostgresStore) -> list[ActionStatus]:
    return [a.status for a in store.actions()]


def test_what_is_due_is_published_with_ids_and_a_ticket_only(engine: Engine) -> None:
    """A message names the row and its ticket; the payload stays in the database."""
    store, relay, broker = set_up(engine, ["secret"])

    tick = relay.tick(QUEUES, admit=True)

    (message,) = broker.sent
    assert tick.published == 1
    assert message.label == "jobs.Work"
    assert message.ids == (store.actions()[0].id,)
    assert "secret" not in repr(message)
    assert statuses(store) == [ActionStatus.PUBLISHED]


def test_a_queue_that_nobody_serves_gets_no_message(engine: Engine) -> None:
    """Its rows stay pending, where an operator sees them."""
    store, relay, broker = set_up(engine, ["one"])

    assert relay.tick({}, admit=True).idle

    assert broker.sent == []
    assert statuses(store) == [ActionStatus.PENDING]


def test_a_broker_outage_counts_against_no_action(engine: Engine) -> None:
    """Given a broker that fails in the middle, all rows go back without an attempt; it is asked before the next try."""
    store, relay, broker = set_up(engine, ["one", "two", "three"])
    broker.down, broker.takes = True, 1

    assert "redis://nowhere" in str(relay.tick(QUEUES, admit=True).broker_down)
    assert statuses(store) == [ActionStatus.PENDING] * 3
    sent = len(broker.sent)
    assert relay.tick(QUEUES, admit=True).broker_down is not None
    assert len(broker.sent) == sent

    broker.down = False
    assert relay.tick(QUEUES, admit=True).published == 3
    assert {(a.attempt, a.status) for a in store.actions()} == {(0, ActionStatus.PUBLISHED)}


def test_a_message_of_an_old_ticket_starts_nothing(engine: Engine) -> None:
    """What a failed publish may have sent is void once the row is back."""
    _, relay, broker = set_up(engine, ["one"])
    broker.down, broker.takes = True, 1
    relay.tick(QUEUES, admit=True)
    (old,) = broker.sent
    broker.down = False
    relay.tick(QUEUES, admit=True)
    outbox = PostgresOutbox(engine)

    assert outbox.claim(uuid4(), old.ids, old.ticket, uuid4()) == []
    claimed = outbox.claim(uuid4(), old.ids, broker.sent[-1].ticket, uuid4())
    assert [c.attempt for c in claimed] == [1]


def test_a_lane_admits_its_head_only(engine: Engine) -> None:
    """Of a partition key one action is published; the next is admitted when that one has ended."""
    store, relay, broker = set_up(engine, ["one", "two"], lane="x")

    relay.tick(QUEUES, admit=True)
    relay.tick(QUEUES, admit=True)

    assert statuses(store) == [ActionStatus.PUBLISHED, ActionStatus.BLOCKED]
    store.cancel_action(broker.ids[0])
    relay.tick(QUEUES, admit=True)
    assert statuses(store) == [ActionStatus.CANCELLED, ActionStatus.PUBLISHED]


def test_the_window_keeps_the_brokers_queue_short(engine: Engine) -> None:
    """No more is published than the window, however long the backlog; a full window is told."""
    _, relay, broker = set_up(engine, [f"job {n}" for n in range(30)])

    first, second = relay.tick(QUEUES, admit=True), relay.tick(QUEUES, admit=True)

    assert (first.published, second.published, second.full) == (16, 0, True)
    assert len(broker.ids) == 16


def test_a_window_doubles_when_hungry_and_halves_when_full() -> None:
    """It follows what the workers take, between four times their slots and 2,000."""
    window = Window(16)
    for _ in range(2):
        window.used(taken=0, published=16, room=window.room(0, 4))
    assert window.size == 32
    window.full(4)
    window.full(4)
    assert window.size == 16


@pytest.mark.parametrize(
    ("rows", "slots", "sizes"), [(3, 4, [1, 1, 1]), (80, 4, [10] * 8), (900, 1, [50] * 18)]
)
def test_several_ids_go_in_one_message_only_under_backlog(rows: int, slots: int, sizes: list[int]) -> None:
    """One each while there is little to do; never more than fifty."""
    published = [Published(ActionId(UUID(int=n), 1, 0), "m", "A", 0) for n in range(rows)]

    assert [len(m.ids) for m in messages(published, uuid4(), slots)] == sizes


def test_what_was_lost_before_goes_alone() -> None:
    """It may be what killed its worker: no neighbour shares its message."""
    published = [Published(ActionId(UUID(int=n), 1, 0), "m", "A", int(n == 7)) for n in range(80)]

    alone = [m for m in messages(published, uuid4(), 1) if ActionId(UUID(int=7), 1, 0) in m.ids]

    assert [len(m.ids) for m in alone] == [1]


def repair(
    engine: Engine, broker: FakeBroker, queues: dict[str, Queue] = QUEUES, *, bury: bool = False
) -> Repaired:
    return reconcile(PostgresOutbox(engine), broker, queues, lease=timedelta(seconds=15), may_bury=bury)


def test_a_lost_message_is_sent_again_under_the_same_ticket(engine: Engine) -> None:
    """Evidence: the broker's queue is empty. Less often each time: the patience doubles."""
    _, relay, broker = set_up(engine, ["one"])
    relay.tick(QUEUES, admit=True)
    assert repair(engine, broker) == Repaired()  # it has not waited long enough

    age(engine, 6)
    assert repair(engine, broker) == Repaired(republished=1)
    assert broker.sent[0].ticket == broker.sent[1].ticket
    assert repair(engine, broker) == Repaired()
    age(engine, 6)
    assert repair(engine, broker) == Repaired(republished=1)


def test_a_message_that_may_still_wait_is_not_sent_again(engine: Engine) -> None:
    """Without evidence nothing is done, however long it takes; being overtaken is evidence."""
    _, relay, broker = set_up(engine, ["one"])
    relay.tick(QUEUES, admit=True)
    broker.empty = False
    age(engine, 60)

    assert repair(engine, broker) == Repaired()

    with engine.connect() as connection:
        now = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert repair(engine, broker, {"default": Queue(4, now)}) == Repaired(republished=1)


def test_an_untracked_action_is_claimed_once_however_often_it_is_published(engine: Engine) -> None:
    """At most once is kept by the claim: a message that only waited may be sent again without harm."""
    store, relay, broker = set_up(engine, [])
    store.advance(jobs, "a", Shout("hello"))
    relay.tick(QUEUES, admit=True)
    age(engine, 6)

    assert repair(engine, broker) == Repaired(republished=1)
    outbox = PostgresOutbox(engine)
    claims = [outbox.claim(uuid4(), m.ids, m.ticket, uuid4()) for m in broker.sent]
    assert [len(claimed) for claimed in claims] == [1, 0]
    assert statuses(store) == [ActionStatus.COMPLETED]


def test_what_dead_workers_ran_goes_back_with_the_attempt_on_record(engine: Engine) -> None:
    """Not before the relay may bury: right after an outage all heartbeats are late."""
    store, relay, broker = set_up(engine, ["one"])
    relay.tick(QUEUES, admit=True)
    outbox = PostgresOutbox(engine)
    outbox.claim(uuid4(), broker.ids, broker.sent[0].ticket, uuid4())  # by a worker that no row knows

    assert repair(engine, broker) == Repaired()
    assert repair(engine, broker, bury=True) == Repaired(requeued=1)

    (action,) = store.actions()
    assert (action.status, action.note) == (ActionStatus.PENDING, "its worker was lost")
    assert [(a.number, a.outcome) for a in action.attempts] == [(1, "lost")]


@pytest.mark.parametrize(
    ("rows", "at_once", "sizes"), [(1, 50, [1]), (30, 50, [30]), (30, 3, [3] * 10), (120, 50, [50, 50, 20])]
)
def test_what_a_worker_claims_in_one_go_goes_in_one_message(
    rows: int, at_once: int, sizes: list[int]
) -> None:
    """Where effects are quick a message for each would cost more than it saves."""
    published = [Published(ActionId(UUID(int=n), 1, 0), "m", "A", 0) for n in range(rows)]

    assert [len(m.ids) for m in messages(published, uuid4(), 8, at_once)] == sizes
