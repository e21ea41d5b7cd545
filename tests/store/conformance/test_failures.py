"""finito's five kinds of error and their relatives, each provoked for real, with its context.

Source: finito-postgres, ErrorKind: Serialization, Database, DBPool, FSMNotFound, ActionNotFound.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from examples.door import Close, Open, Opened, door
from fsm_core import ActionId
from fsm_core.codec import Limits
from fsm_core.errors import (
    ActionNotFound,
    DatabaseError,
    DatabaseUnavailable,
    DuplicateMachine,
    InvalidPayload,
    MachineNotFound,
    PayloadTooLarge,
    PoolExhausted,
    SchemaError,
    UnknownMachine,
)
from tests.store.conftest import MakeWorld
from tests.store.machines import New, Note, Pay, build, orders
from tests.store.world import WORLDS, World


def test_serialization_a_row_that_does_not_fit_its_class(world: World) -> None:
    """The state's JSON was changed from outside: the error names state and field, and nothing is written."""
    world.store.start(orders, 7, New(42))
    world.sql('UPDATE fsm.machines SET state = \'{"total": "many"}\'')
    before = world.contents()

    for call in (lambda: world.store.get(orders, 7), lambda: world.store.advance(orders, 7, Pay())):
        with pytest.raises(
            InvalidPayload, match=r"state New does not fit New: Expected `int`, got `str` - at `\$.total`"
        ):
            call()

    assert world.contents() == before
    assert world.store.record(orders, 7).state == {"total": "many"}


def test_database_a_constraint_of_the_operators_own(world: World) -> None:
    """Message and sqlstate are the database's, context and address ours."""
    world.store.start(door, "front")
    world.sql("ALTER TABLE fsm.events ADD CONSTRAINT no_more CHECK (seq < 1)")
    before = world.contents()

    with pytest.raises(DatabaseError, match=r'^advance door/front: .*"no_more".* \(postgresql://') as caught:
        world.store.advance(door, "front", Close())

    assert (caught.value.sqlstate, caught.value.context) == ("23514", "advance door/front")
    assert isinstance(caught.value.__cause__, psycopg.errors.CheckViolation)
    assert world.contents() == before


def test_pool_no_connection_comes_free(make_world: MakeWorld) -> None:
    """A pool of one, whose connection waits for a lock: the second caller is told so, and at once when it is free again."""
    world = make_world(engine={"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.05})
    world.store.start(orders, 7, New(1))
    with psycopg.connect(world.url) as blocker:
        blocker.execute("SELECT 1 FROM fsm.machines FOR UPDATE")
        first = threading.Thread(target=world.store.advance, args=(orders, 7, Note()))
        first.start()
        try:
            while not blocker.execute(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            ).fetchall():
                blocker.execute("SELECT pg_stat_clear_snapshot()")
            with pytest.raises(PoolExhausted) as caught:
                world.store.get(orders, 7)
        finally:
            blocker.rollback()
            first.join()

    assert caught.value.context == "get orders/7"
    assert caught.value.where is not None
    assert caught.value.where.startswith("postgresql://")
    assert world.store.get(orders, 7).seq == 1


def test_machine_not_found_and_action_not_found(world: World) -> None:
    """The rows that are missing are named in attributes and message."""
    wanted = ActionId(UUID(int=9), 4, 2)
    with pytest.raises(MachineNotFound) as machine:
        world.store.get(door, "none")
    with pytest.raises(ActionNotFound) as action:
        world.store.action(wanted)

    assert (machine.value.name, machine.value.key) == ("door", "none")
    assert action.value.action_id == "00000000-0000-0000-0000-000000000009.4.2"


@pytest.mark.parametrize("kind", sorted(WORLDS))
def test_a_database_that_is_away_is_named_without_its_password(kind: str) -> None:
    """Server, port and database stand in the error; the password is masked."""
    with (
        WORLDS[kind]("postgresql+psycopg://app:s3cret@127.0.0.1:9/shop") as world,
        pytest.raises(DatabaseUnavailable) as caught,
    ):
        world.store.advance(door, "front", Close())

    assert caught.value.where == "postgresql://app:***@127.0.0.1:9/shop"
    assert str(caught.value).startswith("advance door/front: the database does not answer: ")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(WORLDS))
def test_a_database_without_tables_says_what_to_do(kind: str, empty_database_url: str) -> None:
    """`fsm migrate`."""
    with WORLDS[kind](empty_database_url) as world:
        for call in (lambda: world.store.start(door, "front"), lambda: world.store.get(door, "front")):
            with pytest.raises(SchemaError, match="run `fsm migrate`") as caught:
                call()
            assert caught.value.sqlstate == "42P01"


def test_a_role_without_the_privilege_is_a_database_error(
    open_world: Callable[..., AbstractContextManager[World]], world: World, database_url: str
) -> None:
    """The database's refusal, typed; nothing is written."""
    world.store.start(door, "front")
    world.sql(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'fsm_reader') THEN"
        " CREATE ROLE fsm_reader; END IF; END $$"
    )
    world.sql("GRANT USAGE ON SCHEMA fsm TO fsm_reader")
    world.sql("GRANT SELECT ON ALL TABLES IN SCHEMA fsm TO fsm_reader")
    options = {"connect_args": {"options": "-c role=fsm_reader"}}
    with open_world(engine=options) as reader:
        assert reader.store.get(door, "front").state == Opened()
        with pytest.raises(DatabaseError, match="permission denied") as caught:
            reader.store.advance(door, "front", Close())

    assert caught.value.sqlstate == "42501"
    assert world.store.get(door, "front").seq == 0


def test_two_machines_of_one_name_and_version_are_refused_at_their_first_use(world: World) -> None:
    """Rows could not tell them apart; the machine that was known first goes on."""
    world.store.start(orders, 7, New(1))
    other = build()

    for call in (
        lambda: world.store.start(other, 8, New(1)),
        lambda: world.store.get(other, 7),
        lambda: world.store.advance(other, 7, Note()),
    ):
        with pytest.raises(DuplicateMachine):
            call()

    assert world.store.advance(orders, 7, Note()).seq == 1


def test_two_machines_of_one_name_and_version_are_refused_at_start(make_world: MakeWorld) -> None:
    """A store that is given both is not made."""
    with pytest.raises(DuplicateMachine, match="two machines are called 'orders', version 1"):
        make_world(machines=[orders, build()])


def test_a_row_of_a_version_that_nobody_knows_is_left_alone(world: World, make_world: MakeWorld) -> None:
    """UnknownMachine names the version and those that are known; with the old one registered the row goes on in it."""
    newer = build(version=2)
    world.store.start(orders, 7, New(1))
    before = world.contents()
    young = make_world(machines=[newer])

    for call in (
        lambda: young.store.get(newer, 7),
        lambda: young.store.advance(newer, 7, Note()),
        lambda: young.store.start(newer, 7, New(1)),
    ):
        with pytest.raises(
            UnknownMachine,
            match=r"no machine 'orders' version 1 is registered here \(registered: orders v2\)",
        ):
            call()
    assert world.contents() == before

    both = make_world(machines=[newer, orders])
    assert both.store.advance(newer, 7, Note()).version == 1
    assert both.store.start(newer, 8, New(1)).version == 2


def test_the_limits_of_payloads_are_the_stores(make_world: MakeWorld) -> None:
    """Events, states and what an event emits are measured alike."""
    world = make_world(limits=Limits(size=60))
    world.store.start(orders, 7, New(1))
    before = world.contents()

    with pytest.raises(PayloadTooLarge, match="event Note has 62 bytes, the limit is 60"):
        world.store.advance(orders, 7, Note("x" * 51))
    with pytest.raises(PayloadTooLarge, match="action Charge has"):
        world.store.advance(orders, 7, Pay("x" * 49))

    assert world.contents() == before
    assert world.store.advance(orders, 7, Note("x" * 49)).seq == 1


def test_a_broken_transition_changes_nothing_and_is_not_dressed_up(make_world: MakeWorld) -> None:
    """A bug in the application's code arrives as it is."""

    def break_(state: Opened, event: Open) -> Opened:
        raise ZeroDivisionError("a bug")

    broken: Any = type(door)("door", states=Opened, events=Open, initial=Opened())
    broken.on(break_)
    world = make_world()
    world.store.start(broken, "front")
    before = world.contents()

    with pytest.raises(ZeroDivisionError, match="a bug"):
        world.store.advance(broken, "front", Open())

    assert world.contents() == before
