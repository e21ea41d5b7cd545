"""A call that writes more than once in the caller's transaction: refused, it leaves nothing there, and that goes on."""

from dataclasses import dataclass

import pytest
from sqlalchemy import Engine, Text, bindparam, select
from sqlalchemy.types import NullType

from fsm_core import Change, Machine, Spawn, To
from fsm_core.errors import ChildExists, DatabaseError, MachineNotFound, TransitionError
from fsm_core.postgres import PostgresStore
from tests.store.family import Shell, doll
from tests.store.machines import New, NothingToPay, Pay, orders


@dataclass(frozen=True)
class Shelf:
    pass


@dataclass(frozen=True)
class Put:
    key: str


shelf = Machine("shelf", states=Shelf, events=Put, initial=Shelf())


@shelf.on
def put(state: Shelf, event: Put) -> To[Shelf, Spawn]:
    return state, [Spawn(doll, event.key, Shell(0))]


@dataclass(frozen=True)
class Told:
    word: str = ""


@dataclass(frozen=True)
class Tell:
    word: str


wall = Machine("wall", states=Told, events=Tell, initial=Told())
COPIES: dict[str, object] = {
    "no statement": "INSERT",
    "no value of the driver's": select(bindparam("it", object(), NullType())),
    "no text of the database's": select(bindparam("it", "\ud800", Text())),
}


@wall.on
def tell(_state: Told, event: Tell) -> Told:
    return Told(event.word)


@wall.project
def copied(change: Change[Told, Tell]) -> list[object]:
    return [COPIES[change.after.word]] if change.after.word else []


@pytest.fixture
def store(engine: Engine) -> PostgresStore:
    store = PostgresStore(engine)
    for key in "ab":
        store.start(shelf, key)
    store.start(doll, "taken", Shell(0))
    return store


def test_a_refused_signal_takes_the_start_back(store: PostgresStore, engine: Engine) -> None:
    with engine.connect() as connection, connection.begin():
        with pytest.raises(NothingToPay):
            store.signal_or_start(orders, "poor", Pay(), New(0), session=connection)
        store.signal_or_start(orders, "rich", Pay(), New(5), session=connection)

    assert store.get(orders, "rich").seq == 1
    with pytest.raises(MachineNotFound):
        store.get(orders, "poor")


def test_one_child_that_cannot_be_born_takes_many_events_back(store: PostgresStore, engine: Engine) -> None:
    with engine.connect() as connection, connection.begin():
        with pytest.raises(ChildExists):
            store.advance_many(shelf, [("a", Put("new")), ("b", Put("taken"))], session=connection)
        store.advance_many(
            shelf, [("a", Put("one")), ("b", Put("two")), ("a", Put("three"))], session=connection
        )

    assert [store.get(shelf, key).seq for key in "ab"] == [2, 1]
    assert sorted(record.key for record in store.machines("doll")) == ["one", "taken", "three", "two"]


@pytest.mark.parametrize("word", COPIES)
def test_a_projection_that_never_reaches_the_server_takes_its_event_back(
    store: PostgresStore, engine: Engine, word: str
) -> None:
    """The transaction did not notice: what the call had written before is taken back, and the caller may commit."""
    store.start(wall, "a")
    with engine.connect() as connection, connection.begin():
        with pytest.raises((TransitionError, DatabaseError, UnicodeError)):
            store.advance(wall, "a", Tell(word), session=connection)
        with pytest.raises((TransitionError, DatabaseError, UnicodeError)):
            store.signal_or_start(wall, "b", Tell(word), session=connection)

    assert store.get(wall, "a").seq == 0
    with pytest.raises(MachineNotFound):
        store.get(wall, "b")
