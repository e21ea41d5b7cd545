"""Messages to machines of other databases: taken there by the worker that has them, applied once, and ended in their own."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
from sqlalchemy import Engine, text

from fsm_core import ActionStatus
from fsm_core.delivery.finish import finish, finish_alone
from fsm_core.delivery.outcome import Outcome, Result, from_json
from fsm_core.delivery.ports import Claimed
from fsm_core.errors import ConfigurationError, DatabaseUnavailable
from fsm_core.explain import explain
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.engine import own_engine
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.sharded import Letterbox, Post, ShardedStore
from fsm_core.records import ActionRecord, Snapshot
from fsm_core.registry import Registry
from tests.scale.desks import Close, Open, Write, broken, desk
from tests.scale.test_shards import at
from tests.waiting import eventually
from tests.workers.conftest import Cluster
from workers import settings as workers_settings
from workers.runtime import Runtime
from workers.settings import Settings
from workers.shards import Shards

HERE, THERE = at("a")[0], at("b")[0]
ADDRESS = f"desk/{THERE}"


class Office:
    """Two databases, and the worker of shard `a`, step by step."""

    def __init__(self, engines: dict[str, Engine], former: tuple[tuple[str, ...], ...] = ()) -> None:
        self.engines, self.now = engines, 0.0
        stores = {name: PostgresStore(each, machines=[desk]) for name, each in engines.items()}
        self.store = ShardedStore(stores, former=former)
        self.outbox, self.registry = PostgresOutbox(engines["a"]), Registry([desk])
        self.post = self.posting(engines["b"])

    def posting(self, other: Engine) -> Post:
        boxes = {"b": Letterbox(other, machines=[desk])}
        return Post(self.outbox, "a", self.store.places, boxes, clock=lambda: self.now)

    def claimed(self) -> Claimed:
        """The one message that is due."""
        ticket = uuid4()
        (row,) = self.outbox.publish("default", 100, ticket)
        (claimed,) = self.outbox.claim(uuid4(), [row.id], ticket, uuid4())
        return claimed

    def deliver(self, claimed: Claimed) -> Result:
        return Result(claimed, self.post.deliver(claimed, from_json(claimed.outcome or "")))

    def work(self) -> ActionRecord:
        """Take the message that is due where it belongs; returns its row."""
        claimed = self.claimed()
        for each in finish(self.outbox, self.registry, [self.deliver(claimed)]).alone:
            finish_alone(self.outbox, self.registry, each)
        return self.store.action(claimed.id)

    def due(self, age: timedelta = timedelta(0)) -> None:
        with self.engines["a"].begin() as connection:
            connection.execute(
                text(
                    "UPDATE fsm.actions SET run_at = now(), created_at = created_at - :age WHERE status = 'pending'"
                ),
                {"age": age},
            )

    def notes(self, key: str) -> object:
        return self.store.get(desk, key).state


@pytest.fixture
def office(engine: Engine, second_engine: Engine) -> Iterator[Office]:
    office = Office({"a": engine, "b": second_engine})
    for key in (HERE, THERE):
        office.store.start(desk, key)
    broken.clear()
    yield office
    office.post.close()


def test_a_message_is_applied_there_and_ended_here(office: Office) -> None:
    """Its event tells where it came from, as that of a neighbour would."""
    office.store.advance(desk, HERE, Write(THERE))

    row = office.work()

    assert (row.status, row.note, row.error) == (ActionStatus.COMPLETED, None, None)
    assert office.notes(THERE) == Open(("hello",))
    with office.engines["b"].connect() as connection:
        event = connection.execute(text("SELECT source, cause FROM fsm.events WHERE seq = 1")).one()
    assert event == ("machine", str(row.id))


def test_a_worker_that_dies_between_the_two_databases_delivers_once(office: Office) -> None:
    """The next one finds that it is there, also in the words of another version of the code."""
    office.store.advance(desk, HERE, Write(THERE))
    claimed = office.claimed()
    office.deliver(claimed)

    with office.engines["b"].begin() as connection:
        connection.execute(text("UPDATE fsm.dedup SET digest = 'other'"))
    office.deliver(claimed)
    result = office.deliver(claimed)
    assert finish(office.outbox, office.registry, [result]).done == [result]

    assert office.notes(THERE) == Open(("hello",))
    assert office.store.action(claimed.id).status is ActionStatus.COMPLETED


@pytest.mark.parametrize(
    ("before", "said", "why"),
    [
        (None, "refused", "ignored: Rejected: no such notes here"),
        (Close(), "hello", "ignored: UnhandledEvent"),
    ],
)
def test_what_the_machine_refuses_is_over(office: Office, before: Close | None, said: str, why: str) -> None:
    if before is not None:
        office.store.advance(desk, THERE, before)
    office.store.advance(desk, HERE, Write(THERE, said))

    row = office.work()

    assert row.status is ActionStatus.COMPLETED
    assert str(row.note).startswith(why)


def test_a_machine_that_is_nowhere_is_waited_for(office: Office) -> None:
    """Started later, it gets its message; one that never comes is named after a day."""
    (later,) = set(at("b", 2)) - {THERE}
    office.store.advance(desk, HERE, Write(later))
    row = office.work()
    assert (row.status, row.note) == (ActionStatus.PENDING, f"there is no machine desk/{later} yet")

    office.due(age=timedelta(hours=25))
    row = office.work()
    assert row.status is ActionStatus.FAILED
    assert f"there is no machine desk/{later}" in str(row.error)

    office.store.start(desk, later)
    office.store.retry([row.id])
    assert office.work().status is ActionStatus.COMPLETED
    assert office.notes(later) == Open(("hello",))


def test_a_shard_that_is_away_is_left_alone_for_a_while(office: Office) -> None:
    """Its messages wait, however old they are, and keep nobody else busy; then they arrive."""
    office.store.advance(desk, HERE, Write(THERE))
    office.due(age=timedelta(hours=25))
    port_of_nobody = own_engine("postgresql://nobody@127.0.0.1:1/nothing")
    there, office.post = office.post, office.posting(port_of_nobody)
    row = office.work()
    assert row.status is ActionStatus.PENDING
    assert "shard b did not take it: DatabaseUnavailable" in str(row.note)

    office.due()
    assert office.work().note == "shard b is away"
    told = {why.code: why.message for why in explain(office.store.explain(desk, HERE))}
    assert "shard b is away" in told["handed-back"]
    office.now += 60
    office.due()
    assert "shard b did not take it" in str(office.work().note)

    office.post.close()
    office.post = there
    office.due()
    assert office.work().status is ActionStatus.COMPLETED
    assert office.notes(THERE) == Open(("hello",))


def test_one_slot_at_a_time_finds_out_whether_a_shard_is_back(office: Office) -> None:
    office.store.advance(desk, HERE, Write(THERE))
    claimed = office.claimed()
    meanwhile: list[Outcome] = []

    class Silent(Letterbox):
        def take(self, *_: object) -> Snapshot[Any]:
            if office.now:
                meanwhile.append(office.deliver(claimed).outcome)
            raise DatabaseUnavailable("nobody answers")

    office.post = Post(
        office.outbox, "a", office.store.places, {"b": Silent(office.engines["b"])}, lambda: office.now
    )
    office.deliver(claimed)
    office.now += 60

    outcomes = [office.deliver(claimed).outcome, *meanwhile]

    assert [str(getattr(each, "note", None)).partition(":")[0] for each in outcomes] == [
        "shard b did not take it",
        "shard b is away",
    ]


def test_a_name_that_no_machine_has_is_told_after_a_day(office: Office) -> None:
    """As within one database: nobody knows its code, and there is no such row."""
    office.store.advance(desk, HERE, Write(THERE, name="dsek"))
    assert office.work().note == f"there is no machine dsek/{THERE} yet"

    office.due(age=timedelta(hours=25))

    assert office.work().status is ActionStatus.FAILED


def test_a_bug_there_keeps_the_message(office: Office) -> None:
    """It stands as failed here, for an operator; after the fix it is delivered."""
    broken.add("hello")
    office.store.advance(desk, HERE, Write(THERE))
    row = office.work()
    assert (row.status, row.note) == (ActionStatus.FAILED, "transition")
    assert "RuntimeError: a bug" in str(row.error)
    assert office.notes(THERE) == Open()

    broken.clear()
    office.store.retry([row.id])

    assert office.work().status is ActionStatus.COMPLETED
    assert office.notes(THERE) == Open(("hello",))


def test_code_that_a_worker_does_not_know_is_anothers_to_deliver(office: Office) -> None:
    office.store.advance(desk, HERE, Write(THERE))
    with office.engines["b"].begin() as connection:
        connection.execute(text("UPDATE fsm.machines SET version = 9"))

    row = office.work()

    assert row.status is ActionStatus.PENDING
    assert "no worker here can apply it: UnknownMachine" in str(row.note)


def test_one_that_a_former_set_of_shards_had_placed_is_found(engine: Engine, second_engine: Engine) -> None:
    """Wherever it lives: at its home here, or where it was born."""
    office = Office({"a": engine, "b": second_engine}, former=(("a",), ("b",)))
    old, new = HERE, at("a", 2)[1]
    office.store.stores["b"].start(desk, old)
    office.store.start(desk, new)
    for to in (old, new):
        office.store.advance(desk, new, Write(to))
        assert office.work().status is ActionStatus.COMPLETED

    assert office.notes(old) == Open(("hello",))
    assert office.notes(new) == Open(("hello",))
    office.post.close()


def test_workers_deliver_to_the_shards_of_their_settings(
    office: Office, database_url: str, second_engine: Engine
) -> None:
    """A message is a claim like any other, in a slot of its own."""
    urls = {"a": database_url, "b": second_engine.url.render_as_string(hide_password=False)}
    settings = Settings(database_url, shards=Shards("a", urls))
    runtime = Runtime(settings, Registry([desk]), kind="node", queues={"default": 2}, slots=2)
    for _ in range(5):
        office.store.advance(desk, HERE, Write(THERE))
    ticket: UUID = uuid4()
    ids = [row.id for row in office.outbox.publish("default", 100, ticket)]

    runtime.handle(ticket, ids, "default")
    runtime.close()

    assert office.notes(THERE) == Open(("hello",) * 5)
    assert {office.store.action(each).status for each in ids} == {ActionStatus.COMPLETED}


def test_a_worker_that_is_killed_between_the_two_databases(cluster: Cluster, second_engine: Engine) -> None:
    """After the commit there, before the one here: another worker is given the message, and ends it."""
    store = ShardedStore({"a": PostgresStore(cluster.engine), "b": PostgresStore(second_engine)})
    for key in (HERE, THERE):
        store.start(desk, key)
    there = second_engine.url.render_as_string(hide_password=False)
    cluster.env |= {
        "FSM_MACHINES": "tests.scale.desks:desk",
        "FSM_SHARD": "a",
        "FSM_SHARDS": f"a={cluster.database_url} b={there}",
    }
    cluster.relay()
    cluster.env["FSM_CRASH_AT"] = "worker.after_effect"
    doomed = cluster.worker("doomed")
    del cluster.env["FSM_CRASH_AT"]
    store.advance(desk, HERE, Write(THERE))
    eventually(lambda: not psutil.pid_exists(doomed), timeout=60, what="it dies with the message in its hand")
    assert store.get(desk, THERE).state == Open(("hello",))
    assert [each.status for each in store.actions()] == [ActionStatus.PUBLISHED]

    cluster.worker("other")

    assert [each.status for each in cluster.settled(60)] == [ActionStatus.COMPLETED]
    assert store.get(desk, THERE).state == Open(("hello",))


def test_shards_are_read_from_the_environment() -> None:
    environ = {
        "DATABASE_URL": "postgresql://u@h/a",
        "FSM_SHARD": "a",
        "FSM_SHARDS": "a=postgresql://u@h/a b=postgresql://u@h/b?x=1,2",
        "FSM_FORMER_SHARDS": "a,b a",
    }
    urls = {"a": "postgresql://u@h/a", "b": "postgresql://u@h/b?x=1,2"}
    shards = Shards("a", urls, (("a", "b"), ("a",)))

    assert workers_settings.read({}, environ).shards == shards
    assert workers_settings.read({}, {"DATABASE_URL": "postgresql://u@h/a"}).shards is None
    configured = {"fsm_shards": urls, "fsm_shard": "a", "fsm_former_shards": "a,b a"}
    assert workers_settings.read(configured, {"DATABASE_URL": "postgresql://u@h/a"}).shards == shards


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"FSM_SHARD": "c"}, "FSM_SHARD is one of FSM_SHARDS"),
        ({"FSM_SHARD": ""}, "FSM_SHARD is one of FSM_SHARDS"),
        ({"FSM_SHARDS": "a=postgresql://u:secret@h/a b"}, "FSM_SHARDS is like"),
        ({"FSM_SHARDS": "postgresql://u:secret@h/a?sslmode=verify-full"}, "FSM_SHARDS is like"),
        ({"FSM_SHARDS": "a=postgresql://u:secret@h/a a=postgresql://u:secret@h/b"}, "FSM_SHARDS is like"),
        ({"FSM_REQUIRE_TLS": "1"}, "sslmode=verify-full"),
    ],
)
def test_wrong_shards_are_told_without_their_passwords(wrong: dict[str, str], why: str) -> None:
    tls = "postgresql://u@h/a?sslmode=verify-full"
    environ = {
        "DATABASE_URL": tls,
        "BROKER_URL": "rediss://h",
        "FSM_SHARD": "a",
        "FSM_SHARDS": f"a={tls} b=postgresql://u:secret@h/b",
        **wrong,
    }

    with pytest.raises(ConfigurationError, match=why) as raised:
        workers_settings.read({}, environ)

    assert "secret" not in str(raised.value)
