"""The application's own tables, kept in step by a pure function: in the change's own transaction, in web app and worker alike."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    DateTime,
    Enum,
    Executable,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    create_engine,
    delete,
    func,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from fsm_core import Change, Failed, Machine, Rejected, Spawn, To
from fsm_core.delivery.finish import finish, finish_alone
from fsm_core.delivery.outcome import Completed, Result
from fsm_core.errors import ConstraintViolated, TransitionError
from fsm_core.memory import MemoryStore
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.urls import engine_url
from fsm_core.registry import Registry
from tests.store.world import PostgresWorld

MakeWorld = Callable[..., PostgresWorld]


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


metadata = MetaData()
accounts = Table(
    "accounts",
    metadata,
    Column("key", Text, primary_key=True),
    Column("balance", Numeric, CheckConstraint("balance >= 0", name="never_below_zero"), nullable=False),
    Column("mood", Enum(Mood), nullable=False),
    Column("seen", JSON, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("kind", Text, default="plain"),
    Column("made", DateTime(timezone=True), server_default=func.now()),
)
owners = Table(
    "owners",
    metadata,
    Column("name", Text, ForeignKey("accounts.key", deferrable=True, initially="DEFERRED"), primary_key=True),
)
stamped = Table(
    "stamped", metadata, Column("n", Integer, primary_key=True), Column("at", Text, default=lambda: "now")
)


@dataclass(frozen=True)
class Live:
    balance: int = 0


@dataclass(frozen=True)
class Closed:
    pass


@dataclass(frozen=True)
class Add:
    amount: int


@dataclass(frozen=True)
class Owe:
    name: str


@dataclass(frozen=True)
class Ask:
    amount: int


@dataclass(frozen=True)
class Close:
    pass


@dataclass(frozen=True)
class Twin:
    key: str


@dataclass(frozen=True)
class Fetch:
    amount: int


account = Machine(
    "account",
    states=Live | Closed,
    events=Add | Owe | Ask | Close | Twin | Failed[Spawn],
    actions=Fetch,
    initial=Live(),
    final=Closed,
)


@account.on
def add(state: Live, event: Add) -> Live:
    return Live(state.balance + event.amount)


@account.on
def owe(state: Live, _event: Owe) -> Live:
    return state


@account.on
def ask(state: Live, event: Ask) -> To[Live, Fetch]:
    return state, [Fetch(event.amount)]


@account.on
def close(_state: Live, _event: Close) -> Closed:
    return Closed()


@account.on
def twin(state: Live, event: Twin) -> To[Live, Spawn]:
    return state, [Spawn(account, event.key, Live(state.balance))]


@account.project
def row(change: Change[Live | Closed, Add | Owe | Ask | Close | Twin | Failed[Spawn]]) -> list[Executable]:
    after = change.after
    if isinstance(after, Closed):
        return [delete(accounts).where(accounts.c.key.in_([change.key]), accounts.c.mood.in_(list(Mood)))]
    values = {
        "balance": Decimal(after.balance), "mood": Mood.GOOD if after.balance > 5 else Mood.BAD,
        "seen": {"before": None if change.before is None else type(change.before).__name__},
        "seq": change.seq, "at": change.at,
    }  # fmt: skip
    made = insert(accounts).values(key=change.key, **values)
    statements: list[Executable] = [made.on_conflict_do_update(index_elements=["key"], set_=values)]
    if isinstance(change.event, Owe):
        statements.append(insert(owners).values(name=change.event.name))
    return statements


@pytest.fixture
def shop(make_world: MakeWorld) -> PostgresWorld:
    world = make_world(machines=(account,))
    engine = create_engine(world.url.replace("postgresql://", "postgresql+psycopg://"))
    metadata.create_all(engine)
    engine.dispose()
    return world


def shown(world: PostgresWorld) -> list[tuple[Any, ...]]:
    return world.sql("SELECT key, balance, mood, seen, seq, kind FROM accounts ORDER BY key")


def test_a_row_follows_its_machine(shop: PostgresWorld) -> None:
    """From the birth on, with every type bound as SQLAlchemy binds it, and constant defaults."""
    born = shop.store.start(account, "a")
    assert shown(shop) == [("a", 0, "BAD", {"before": None}, 0, "plain")]

    now = shop.store.advance(account, "a", Add(7))

    assert shown(shop) == [("a", 7, "GOOD", {"before": "Live"}, 1, "plain")]
    ((at, made),) = shop.sql("SELECT at, made FROM accounts")
    assert at == now.updated_at
    assert isinstance(made, datetime)
    assert born.seq == 0
    shop.store.advance(account, "a", Close())
    assert shown(shop) == []


def test_a_broken_constraint_is_a_rejection_that_changes_nothing(shop: PostgresWorld) -> None:
    shop.store.start(account, "a")
    before = shop.contents()

    with pytest.raises(ConstraintViolated) as caught:
        shop.store.advance(account, "a", Add(-1))

    assert caught.value.constraint == "never_below_zero"
    assert isinstance(caught.value, Rejected)
    assert shop.contents() == before
    assert shown(shop)[0][1] == 0
    with pytest.raises(ConstraintViolated):
        shop.store.start(account, "b", Live(-5))
    assert shop.contents() == before


def test_a_deferred_constraint_speaks_at_once_in_our_own_transaction(shop: PostgresWorld) -> None:
    shop.store.start(account, "a")
    before = shop.contents()

    with pytest.raises(ConstraintViolated, match="owners_name_fkey"):
        shop.store.advance(account, "a", Owe("nobody"))

    assert shop.contents() == before
    shop.store.advance(account, "a", Owe("a"))
    assert shop.sql("SELECT name FROM owners") == [("a",)]


def test_the_callers_transaction_lives_on_after_a_rejection(database_url: str) -> None:
    """What it did before stays, what it does after counts; its commit carries machine and row together."""
    engine = create_engine(database_url)
    metadata.create_all(engine)
    store = PostgresStore(engine)
    store.start(account, "a")
    with Session(engine) as session, session.begin():
        session.execute(text("INSERT INTO stamped (n, at) VALUES (1, 'before')"))
        with pytest.raises(ConstraintViolated):
            store.advance(account, "a", Add(-1), session=session)
        store.advance(account, "a", Add(3), session=session)
        with pytest.raises(ConstraintViolated):
            store.start(account, "b", Live(-5), session=session)
        session.execute(text("INSERT INTO stamped (n, at) VALUES (2, 'after')"))

    with engine.connect() as connection:
        assert connection.execute(text("SELECT n FROM stamped ORDER BY n")).scalars().all() == [1, 2]
        assert connection.execute(text("SELECT key, balance FROM accounts")).all() == [("a", 3)]
    assert store.get(account, "a").state == Live(3)
    with Session(engine) as session:
        store.advance(account, "a", Add(9), session=session)
        session.rollback()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT balance FROM accounts")).scalar() == 3
    engine.dispose()


def finished(world: PostgresWorld, *events: object) -> None:
    """A worker hands in these events as the result of the one open action."""
    outbox, registry, ticket = (
        PostgresOutbox(create_engine(engine_url(world.url))),
        Registry([account]),
        uuid4(),
    )
    (published,) = outbox.publish("default", 10, ticket)
    (claimed,) = outbox.claim(uuid4(), [published.id], ticket, uuid4())
    done = finish(outbox, registry, [Result(claimed, Completed(events))])
    assert (done.done, done.stuck) == ([], [])
    (alone,) = done.alone
    assert finish_alone(outbox, registry, alone).done == [alone]
    outbox.close()


def test_a_workers_result_is_projected_too(shop: PostgresWorld) -> None:
    shop.store.start(account, "a")
    shop.store.advance(account, "a", Ask(4))

    finished(shop, Add(4))

    assert (shop.store.get(account, "a").state, shown(shop)[0][1]) == (Live(4), 4)


def test_a_workers_result_that_breaks_a_constraint_is_ignored_with_the_reason(shop: PostgresWorld) -> None:
    """The effect has happened: its action ends, once, and says why nothing came of it."""
    shop.store.start(account, "a")
    shop.store.advance(account, "a", Ask(-4))

    finished(shop, Add(-4))

    assert (shop.store.get(account, "a").state, shown(shop)[0][1]) == (Live(0), 0)
    (action,) = shop.store.actions()
    assert (str(action.status), action.attempt) == ("completed", 1)
    assert action.note is not None
    assert action.note.startswith("ignored: ConstraintViolated: never_below_zero")


def test_children_are_projected_with_their_birth(shop: PostgresWorld) -> None:
    """And a child whose row breaks a constraint takes the event with it."""
    shop.store.start(account, "a", Live(2))
    shop.store.advance(account, "a", Twin("b"))
    assert [r[:2] for r in shown(shop)] == [("a", 2), ("b", 2)]

    shop.sql("ALTER TABLE accounts ADD CONSTRAINT no_c CHECK (key <> 'c')")
    before = shop.contents()
    with pytest.raises(ConstraintViolated, match="no_c"):
        shop.store.advance(account, "a", Twin("c"))
    assert shop.contents() == before


def test_a_child_born_elsewhere_meanwhile_is_decided_again(shop: PostgresWorld) -> None:
    """The key is free when it is looked at and taken when it is written: the parent is told, its transaction goes on."""
    shop.store.start(account, "a")
    shop.sql("CREATE SEQUENCE stolen")  # a rollback does not take its step back
    shop.sql(
        "CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.key = 'b' AND nextval('stolen') = 1 THEN"
        "  RAISE unique_violation USING CONSTRAINT = 'machines_address';"
        " END IF; RETURN NEW; END $$"
    )
    shop.sql("CREATE TRIGGER steal BEFORE INSERT ON fsm.machines FOR EACH ROW EXECUTE FUNCTION steal()")

    shop.store.advance(account, "a", Twin("b"))

    assert [r[0] for r in shown(shop)] == ["a", "b"]
    assert shop.store.get(account, "a").seq == 1
    assert shop.sql("SELECT last_value FROM stolen") == [(2,)]


def test_a_value_that_python_would_compute_is_refused(database_url: str) -> None:
    """It would be no part of the change: a replay would give another."""
    engine = create_engine(database_url)
    metadata.create_all(engine)
    impure: Machine[Live, Add] = Machine("impure", states=Live, events=Add, initial=Live())

    @impure.project
    def stamp(change: Change[Live, Add]) -> list[Any]:
        return [insert(stamped).values(n=change.seq)]

    with pytest.raises(TransitionError, match=r"stamped\.at to a default in Python"):
        PostgresStore(engine).start(impure, "a")
    engine.dispose()


@pytest.mark.parametrize("given", ["SELECT 1", object(), accounts])
def test_what_is_no_statement_is_a_bug(database_url: str, given: object) -> None:
    engine = create_engine(database_url)
    wrong: Machine[Live, Add] = Machine("wrong", states=Live, events=Add, initial=Live())

    @wrong.project
    def nothing(change: Change[Live, Add]) -> list[Any]:
        return [given]

    store = PostgresStore(engine)
    with pytest.raises(TransitionError, match="a projection gave"):
        store.start(wrong, "a")
    assert store.machines() == []
    engine.dispose()


def test_in_memory_the_statements_can_be_looked_at() -> None:
    store = MemoryStore()
    store.start(account, "a")
    store.advance(account, "a", Close())

    assert [type(s).__name__ for s in store.projected] == ["Insert", "Delete"]


def test_two_changes_of_one_row_from_an_update(shop: PostgresWorld) -> None:
    """A statement may compute in the database: it is applied once for each event."""
    counting: Machine[Live, Add] = Machine("counting", states=Live, events=Add, initial=Live())

    @counting.on
    def more(state: Live, event: Add) -> Live:
        return Live(state.balance + event.amount)

    @counting.project
    def count(change: Change[Live, Add]) -> list[Executable]:
        bump = update(accounts).where(accounts.c.key == "a").values(balance=accounts.c.balance + 1)
        return [] if change.event is None else [bump]

    shop.store.start(account, "a")
    shop.store.start(counting, "x")
    for _ in range(3):
        shop.store.advance(counting, "x", Add(1))
    assert shown(shop)[0][1] == 3
