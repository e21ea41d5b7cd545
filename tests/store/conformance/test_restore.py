"""Rebuilding a partly lost outbox: lost rows come back under their own ids, their outcome in doubt, and nothing else does."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from fsm_core import ActionId
from fsm_core.audit import fsck, lost
from fsm_core.errors import DefinitionError, MachineNotFound, ReplayFailed, UnknownMachine
from fsm_core.memory import MemoryStore
from fsm_core.registry import Registry
from fsm_core.unit import Rebased
from tests.audit.fetching import Go, Got, Nag, Stop, build, fetching
from tests.store.conformance.conftest import MakeWorld
from tests.store.machines import New, orders
from tests.store.world import MemoryWorld, PostgresWorld, World

ID = UUID(int=2)
NOW = datetime.now(UTC)


def lose(world: World, name: str, seq: int | None = None) -> list[ActionId]:
    """Lose the rows of that action (of one event); gives their ids."""
    gone = [a.id for a in world.store.actions(action=name) if seq in (None, a.id.seq)]
    if isinstance(world, PostgresWorld):
        world.sql("DELETE FROM fsm.actions WHERE name = %s AND (%s::int IS NULL OR seq = %s)", name, seq, seq)
    else:
        assert isinstance(world, MemoryWorld)
        tables = world.origin._tables
        for each in gone:
            row = tables.actions.pop(each)
            tables.of_machine[each.machine_id].remove(row)
    return sorted(gone)


def outbox(world: World) -> dict[tuple[int, int], dict[str, Any]]:
    """The rows, by place."""
    return {(row["seq"], row["idx"]): row for row in world.contents()["actions"]}


def findings(world: World) -> list[Any]:
    return [each for log in world.store.logs() for each in fsck(log, Registry([fetching])).findings]


def busy(world: World, *names: str) -> None:
    world.store.start(fetching, "a")
    for name in names:
        world.store.advance(fetching, "a", Go(name))


def test_lost_actions_come_back_as_they_were_emitted(world: World) -> None:
    """With id, route and order; in doubt, after one attempt of which nothing is known."""
    busy(world, "x", "lane:y", "x")
    before = outbox(world)
    gone = lose(world, "Fetch")
    assert len(findings(world)) == 6

    assert world.store.restore(fetching, "a") == gone

    after = outbox(world)
    for place, row in after.items():
        was = before[place]
        kept = ("name", "version", "payload", "tracked", "status", "queue", "priority", "lane", "created_at")
        assert {c: row[c] for c in kept} == {c: was[c] for c in kept}
        if row["name"] == "Fetch":
            assert (row["attempt"], row["in_doubt"], row["note"]) == (1, True, "restored by hand")
    assert before.keys() == after.keys()
    assert findings(world) == []


def test_nothing_is_restored_where_nothing_is_lost(world: World) -> None:
    """Twice is no more than once."""
    busy(world, "x", "y")
    world.store.advance(fetching, "a", Nag())
    before = world.contents()
    assert world.store.restore(fetching, "a") == []
    assert world.contents() == before

    (gone, _) = lose(world, "Fetch")
    lose(world, "Fetch", 2)
    assert len(world.store.restore(fetching, "a")) == 2
    assert world.store.restore(fetching, "a") == []
    assert world.store.action(gone).name == "Fetch"


def test_of_equal_actions_that_are_lost_the_latest_comes_back(world: World) -> None:
    """The earlier one has been answered; which one it was cannot be told from the state."""
    busy(world, "x")
    world.store.advance(fetching, "a", Got("x"))
    world.store.advance(fetching, "a", Go("x"))
    gone = lose(world, "Fetch")

    assert world.store.restore(fetching, "a") == [gone[1]]


def test_of_equal_actions_the_one_that_is_there_stands(world: World) -> None:
    """As many come back as are not there."""
    busy(world, "x", "x", "x")
    lose(world, "Fetch", 1)
    third = lose(world, "Fetch", 3)
    world.change_actions(0, status="running", token=ID, worker_id=ID, started_at=NOW)

    assert world.store.restore(fetching, "a") == [ActionId(third[0].machine_id, 1, 0), *third]


def test_an_action_that_has_ended_is_not_begun_again(world: World) -> None:
    """Its row says what became of it: a failed one is for `retry`. One that is not called for does not come back either."""
    busy(world, "x")
    world.change_actions(0, status="failed", finished_at=NOW)
    before = world.contents()

    assert world.store.restore(fetching, "a") == []
    assert world.contents() == before

    world.store.advance(fetching, "a", Stop())
    lose(world, "Fetch")
    with pytest.raises(DefinitionError, match="machine 'fetching' declares no restore for state Over"):
        world.store.restore(fetching, "a")


def test_a_log_without_the_emission_gives_it_a_new_place(world: World) -> None:
    """Where the event was pruned, and a snapshot stands for it: beyond every place that an event may have used."""
    busy(world, "x")
    (gone,) = lose(world, "Fetch")
    prune(world)

    (made,) = world.store.restore(fetching, "a")

    assert (made.machine_id, made.seq) == (gone.machine_id, 1)
    assert made.idx > 1000
    assert world.store.action(made).payload == {"name": "x", "price": 1.0}


def test_what_cannot_be_told_is_refused_and_changes_nothing(make_world: MakeWorld) -> None:
    """No machine, no `restore`, no code of its version, or a state that the log does not make."""
    world = make_world()
    busy(world, "x")
    world.store.start(orders, 7, New(1))
    lose(world, "Fetch")
    newer, poor = build(version=2), build(restores=False)
    before = world.contents()

    with pytest.raises(MachineNotFound):
        world.store.restore(fetching, "none")
    with pytest.raises(DefinitionError, match="declares no restore for state New"):
        world.store.restore(orders, 7)
    with pytest.raises(DefinitionError, match="declares no restore for state Busy"):
        make_world(machines=[poor]).store.restore(poor, "a")
    with pytest.raises(UnknownMachine):
        make_world(machines=[newer]).store.restore(newer, "a")
    assert world.contents() == before

    world.change_state('{"items": [], "total": 3.0}')
    with pytest.raises(ReplayFailed, match=r"event 1, Go: the log makes Busy .* the machine is Busy"):
        world.store.restore(fetching, "a")
    assert len(outbox(world)) == 3


def test_a_log_that_ends_too_early_is_refused() -> None:
    """Its last event is missing: what that one emitted would be given to others. The state alone does not tell."""
    store = MemoryStore()
    store.start(fetching, "a")
    for event in (Go("x"), Nag()):
        store.advance(fetching, "a", event)
    log = store.log(fetching, "a")

    assert lost(log, store.registry) == []
    with pytest.raises(ReplayFailed, match="event 1, Go"):
        lost(replace(log, entries=log.entries[:-1]), store.registry)


def prune(world: World) -> None:
    """Leave nothing of the log but a snapshot of the present state."""
    if isinstance(world, PostgresWorld):
        world.sql(
            "INSERT INTO fsm.snapshots (machine_id, seq, version, state_name, state)"
            " SELECT id, seq, version, state_name, state FROM fsm.machines"
        )
        world.sql("DELETE FROM fsm.events")
        return
    assert isinstance(world, MemoryWorld)
    tables = world.origin._tables
    for row in tables.machines.values():
        tables.events[row.id].clear()
        tables.snapshots[row.id].append(
            Rebased(row.seq, row.version, row.state_name, row.state_name, row.state)
        )
