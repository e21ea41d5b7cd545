"""What machines, actions and limits are asked for by: a machine itself will do; what no row could be called is refused, by every verb."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from examples.door import door
from fsm_core import ActionId
from fsm_core.errors import (
    ActionNotFound,
    ConfigurationError,
    InvalidKey,
    InvalidPayload,
    MachineNotFound,
    Refused,
)
from tests.store.machines import New, Note, Pay, orders
from tests.store.world import World

Verb = Callable[[Any, Any], Any]

BY_NAME: dict[str, Verb] = {
    "history": lambda store, name: store.history(name, 7),
    "record": lambda store, name: store.record(name, 7),
    "log": lambda store, name: store.log(name, 7).seen.id,
    "logs": lambda store, name: [log.seen.id for log in store.logs([name])],
    "count": lambda store, name: store.count([name]),
    "machines": lambda store, name: store.machines(name),
    "actions": lambda store, name: store.actions(machine=name),
    "cancel": lambda store, name: store.cancel(name, 7),
}

BY_OTHERS: dict[str, Verb] = {
    "machines of a status": lambda store, name: store.machines(status=name),
    "machines in a state": lambda store, name: store.machines(state=name),
    "actions of a status": lambda store, name: store.actions(status=name),
    "actions of a key": lambda store, name: store.actions(key=name),
    "actions of a name": lambda store, name: store.actions(action=name),
    "actions of a queue": lambda store, name: store.actions(queue=name),
    "limit": lambda store, name: store.remove_limit(name),
    "dedup key": lambda store, name: store.advance(orders, 7, Note(), dedup_key=name),
    "dedup key of a signal": lambda store, name: store.signal(orders, 7, Note(), dedup_key=name),
}


@pytest.mark.parametrize("verb", [*BY_NAME, *BY_OTHERS])
def test_what_no_row_could_be_called_is_refused(world: World, verb: str) -> None:
    """Before any statement, by one error that says what it is not. Nothing changes."""
    world.store.start(orders, 7, New(1))
    before = world.contents()

    for name in ("a\0b", "\ud800", "x" * 10_000, "", 1.5):
        with pytest.raises(InvalidKey, match=r"is no [a-z ]+: ") as caught:
            (BY_NAME | BY_OTHERS)[verb](world.store, name)
        assert isinstance(caught.value, Refused)
        assert caught.value.key == name

    assert world.contents() == before


@pytest.mark.parametrize("verb", BY_NAME)
def test_a_machine_stands_for_its_name(world: World, verb: str) -> None:
    for store_key in (7, 8):
        world.store.start(orders, store_key, New(1))
        world.store.advance(orders, store_key, Note())
    world.store.start(door, 7)
    ask = BY_NAME[verb]

    by_value = ask(world.store, orders)

    if verb == "cancel":
        assert (by_value, world.store.get(orders, 7).status) == (2, "cancelled")
    else:
        assert by_value == ask(world.store, "orders")
        assert by_value != ask(world.store, "door")


@pytest.mark.parametrize("note", ["a\0b", "\ud800", "x" * 100_000], ids=["nul", "surrogate", "large"])
def test_a_note_that_no_row_could_keep_is_refused(world: World, note: str) -> None:
    started = world.store.start(orders, 7, New(1))
    world.store.advance(orders, 7, Note())
    before = world.contents()

    for call in (
        lambda: world.store.cancel(orders, 7, note),
        lambda: world.store.cancel_action(ActionId(started.id, 1, 0), note),
    ):
        with pytest.raises(InvalidPayload):
            call()

    assert world.contents() == before


def test_a_note_may_have_lines(world: World) -> None:
    started = world.store.start(orders, 7, New(1))
    world.store.advance(orders, 7, Note())

    world.store.cancel_action(ActionId(started.id, 1, 0), "twice:\n\tsee above")

    assert world.store.action(ActionId(started.id, 1, 0)).note == "twice:\n\tsee above"


@pytest.mark.parametrize(
    "action", [ActionId(UUID(int=1), 10**12, 0), ActionId(UUID(int=1), 1, 10**5), ActionId(UUID(int=1), -(10**30), 0)]
)  # fmt: skip
def test_an_action_beyond_every_number_is_not_there(world: World, action: ActionId) -> None:
    for call in (world.store.action, world.store.cancel_action, lambda a: world.store.retry([a])):
        with pytest.raises(ActionNotFound):
            call(action)
    assert world.store.retry([action, action]) == []


def test_a_failed_action_that_is_named_twice_goes_back_once(world: World) -> None:
    started = world.store.start(orders, 7, New(1))
    world.store.advance(orders, 7, Note())
    world.change_actions(0, status="failed", finished_at=datetime.now(UTC))
    failed = ActionId(started.id, 1, 0)

    assert world.store.retry([failed, failed]) == [failed]


def test_what_only_waits_for_its_birth_is_shown_and_is_no_machine_yet(world: World) -> None:
    """Tools see that something waits there; nobody can read it as a machine, or end it."""
    receipt = world.store.signal(orders, 7, Pay())

    (record,) = world.store.machines(orders)
    assert world.store.record(orders, 7) == record
    assert (record.id, record.status, record.state, record.held) == (receipt.id, "unborn", {}, 1)
    assert world.store.history(orders, 7) == []
    assert world.store.log(orders, 7).held == 1
    for call in (
        lambda: world.store.get(orders, 7),
        lambda: world.store.state_at(orders, 7, 0),
        lambda: world.store.diff(orders, 7, 0, 1),
        lambda: world.store.preview(orders, 7, Pay()),
        lambda: world.store.cancel(orders, 7),
    ):
        with pytest.raises(MachineNotFound):
            call()


@pytest.mark.parametrize("verb", ["machines", "actions"])
@pytest.mark.parametrize("limit", [-1, 2**31])
def test_nobody_can_be_given_so_many(world: World, verb: str, limit: int) -> None:
    with pytest.raises(ConfigurationError, match="limit= is 0 to"):
        getattr(world.store, verb)(limit=limit)


@pytest.mark.parametrize("verb", ["machines", "actions"])
def test_none_may_be_asked_for(world: World, verb: str) -> None:
    world.store.start(orders, 7, New(1))

    assert getattr(world.store, verb)(limit=0) == []
