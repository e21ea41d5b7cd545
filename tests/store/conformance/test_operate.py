"""What an operator does: lists, retries and cancels."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from examples.door import Close, door
from fsm_core import ActionId, ActionStatus
from fsm_core.errors import ActionNotFound, MachineEnded, MachineNotFound, WrongStatus
from tests.store.machines import New, Note, Pay, orders
from tests.store.world import World

NOBODY = ActionId(UUID(int=1), 1, 0)

NOW = datetime.now(UTC)

MADE: dict[str, dict[str, Any]] = {
    "pending": {},
    "published": {"token": UUID(int=2), "published_at": NOW},
    "running": {"token": UUID(int=2), "worker_id": UUID(int=3), "started_at": NOW, "attempt": 3},
    "completed": {"finished_at": NOW},
    "failed": {"finished_at": NOW, "attempt": 3, "error": '{"message": "Boom: no"}'},
    "cancelled": {"finished_at": NOW},
}
"""How an action's row stands in each status."""


def one_action(world: World, status: str) -> ActionId:
    """The first of an order's two actions, in that status."""
    started = world.store.start(orders, 7, New(42))
    world.store.advance(orders, 7, Note())
    world.change_actions(0, status=status, **MADE[status])
    return ActionId(started.id, 1, 0)


def column(world: World, name: str) -> Any:
    """What stands in that column of the first action."""
    (row,) = [row for row in world.contents()["actions"] if row["idx"] == 0]
    return row[name]


def test_a_failed_action_goes_back_with_a_fresh_budget(world: World) -> None:
    """Its attempts are counted anew from here; it says that a hand did it."""
    failed = one_action(world, "failed")
    assert world.store.action(failed).error == "Boom: no"

    assert world.store.retry([failed]) == [failed]

    back = world.store.action(failed)
    assert (back.status, back.attempt, back.finished_at, back.note) == ("pending", 3, None, "retried by hand")
    assert column(world, "budget_from") == 3


def test_the_last_attempt_of_a_retried_action_stays_on_record(world: World) -> None:
    """It stood on the action's own row, which the next claim overwrites."""
    failed = one_action(world, "failed")
    world.change_actions(0, token=UUID(int=2), started_at=NOW)

    world.store.retry([failed])

    (attempt,) = world.store.action(failed).attempts
    assert (attempt.number, attempt.outcome, attempt.error) == (3, "error", "Boom: no")
    assert (attempt.started_at, attempt.ended_at) == (NOW, NOW)


def test_a_failed_action_of_a_lane_waits_for_its_lane_again(world: World) -> None:
    """Retried, it is blocked: the relay's admission decides when it is its turn."""
    world.store.start(orders, 7, New(42))
    world.store.advance(orders, 7, Pay("visa"))
    world.change_actions(status="failed", **MADE["failed"])
    (action,) = world.store.actions(status="failed")

    world.store.retry([action.id])

    assert world.store.action(action.id).status == ActionStatus.BLOCKED


@pytest.mark.parametrize("status", ["pending", "published", "running", "completed", "cancelled"])
def test_only_a_failed_action_is_retried(world: World, status: str) -> None:
    """One by itself is refused with its status; among others it is left out. Nothing changes."""
    wrong = one_action(world, status)
    before = world.contents()

    with pytest.raises(WrongStatus) as caught:
        world.store.retry([wrong])

    assert (caught.value.action_id, caught.value.status, caught.value.wanted) == (
        str(wrong),
        status,
        ("failed",),
    )
    assert world.store.retry([wrong, NOBODY]) == []
    assert world.store.retry([]) == []
    assert world.contents() == before


def test_an_action_that_does_not_exist_is_named(world: World) -> None:
    """By every verb that takes an id."""
    for call in (world.store.action, world.store.cancel_action, lambda a: world.store.retry([a])):
        with pytest.raises(ActionNotFound, match=rf"there is no action {NOBODY}$") as caught:
            call(NOBODY)
        assert caught.value.action_id == str(NOBODY)


@pytest.mark.parametrize("status", ["pending", "published", "running", "failed"])
def test_an_unfinished_or_failed_action_is_cancelled(world: World, status: str) -> None:
    """It keeps its token, so that a late result finds it; the other actions go on."""
    action = one_action(world, status)
    token = column(world, "token")

    world.store.cancel_action(action, "not wanted")

    now = world.store.action(action)
    assert (now.status, now.note, now.finished_at is None) == ("cancelled", "not wanted", False)
    assert column(world, "token") == token
    assert [a.id.idx for a in world.store.actions(status="pending")] == [1]


@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_a_finished_action_is_not_cancelled(world: World, status: str) -> None:
    """It is refused with its status, and nothing changes."""
    action = one_action(world, status)
    before = world.contents()

    with pytest.raises(
        WrongStatus, match=f"is {status}, not blocked or pending or published or running or failed"
    ):
        world.store.cancel_action(action)

    assert world.contents() == before


def test_cancelling_a_machine_ends_it_and_its_open_actions(world: World) -> None:
    """Finished actions stay as they are; no event reaches it any more, and it ends once."""
    completed = one_action(world, "completed")
    world.store.advance(orders, 7, Pay("visa"))
    world.store.start(orders, 8, New(1))
    world.store.advance(orders, 8, Note())

    assert world.store.cancel(orders, 7, "duplicate order") == 2

    now = world.store.get(orders, 7)
    assert (now.status, now.ended_at is None, now.seq) == ("cancelled", False, 2)
    rows = {a.id: (a.status, a.note) for a in world.store.actions(machine="orders", key=7)}
    assert sorted(rows.values()) == [("cancelled", "duplicate order")] * 2 + [("completed", None)]
    assert rows[completed][0] == "completed"
    assert [a.status for a in world.store.actions(key=8)] == ["pending", "pending"]
    for call in (lambda: world.store.advance(orders, 7, Note()), lambda: world.store.cancel(orders, 7)):
        with pytest.raises(MachineEnded, match="machine orders/7 has ended: cancelled"):
            call()
    with pytest.raises(MachineNotFound):
        world.store.cancel(orders, 9)


def test_machines_and_actions_are_listed_by_what_is_asked_for(world: World) -> None:
    """Every filter narrows, the limit bounds, and a machine needs no class to be shown."""
    world.store.start(door, "front")
    world.store.start(orders, 7, New(42))
    world.store.advance(orders, 7, Note())
    world.store.advance(door, "front", Close())
    world.store.start(orders, 8, New(1))
    world.store.cancel(orders, 8)

    store = world.store
    assert [(m.machine, m.key) for m in store.machines()] == [
        ("orders", "8"),
        ("door", "front"),
        ("orders", "7"),
    ]
    assert [m.key for m in store.machines("orders", status="live")] == ["7"]
    assert [(m.key, m.state_name, m.state) for m in store.machines(state="Closed")] == [
        ("front", "Closed", {})
    ]
    assert [m.key for m in store.machines(limit=1)] == ["8"]
    assert store.record("orders", 7).state == {"total": 42}
    assert {a.name for a in store.actions()} == {"NotifyIRC", "Charge"}
    assert [a.key for a in store.actions(action="Charge", queue="money", status="pending")] == ["7", "7"]
    assert [a.name for a in store.actions(machine="door", key="front", limit=1)] == ["NotifyIRC"]
    assert store.actions(machine="door", queue="money") == []
