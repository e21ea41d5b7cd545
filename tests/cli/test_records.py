"""The verbs that look back and ahead: show --at, diff, send --dry-run, fsck, check-upgrade, restore."""

import pytest
from sqlalchemy import Engine, text

from examples.door import SEVEN, door
from fsm_core.postgres import PostgresStore
from tests.audit.fetching import Go, Nag, fetching
from tests.cli.support import Fsm, Refuses


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch, fsm: Fsm) -> Fsm:
    """Runs `fsm` in a process that knows another machine as well."""
    monkeypatch.setenv("FSM_MACHINES", "examples.door:door tests.audit.fetching:fetching")
    return fsm


def do(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def test_a_machine_is_shown_as_it_was(fsm: Fsm, store: PostgresStore) -> None:
    store.start(door, "front")
    for event in SEVEN:
        store.advance(door, "front", event)

    assert fsm("show", "door/front", "--at", "4").out == (
        'door/front: Locked {"code": 1234, "attempts": 3}, seq 4, live\n'
    )
    then = fsm("show", "door/front", "--at", "0", "--json").json
    assert (then["state_name"], then["seq"], then["updated_at"]) == ("Opened", 0, then["created_at"])


def test_the_difference_of_two_states_is_shown(fsm: Fsm, store: PostgresStore) -> None:
    store.start(door, "front")
    for event in SEVEN:
        store.advance(door, "front", event)

    assert fsm("diff", "door/front", "6", "7").out == (
        'door/front: seq 6 to 7\n  ~ attempts: 3 -> 2\n  -> NotifyIRC {"message": "invalid code entered"}\n'
    )
    assert fsm("diff", "door/front", "1", "1").out == "door/front: seq 1 to 1: the same state\n"
    found = fsm("diff", "door/front", "3", "4", "--json").json
    assert (found["before"]["state_name"], found["after"]["state_name"]) == ("Closed", "Locked")
    assert found["changes"] == [
        {"path": "", "kind": "changed", "before": "Closed", "after": "Locked"},
        {"path": "code", "kind": "added", "after": 1234},
        {"path": "attempts", "kind": "added", "after": 3},
    ]
    assert [action["name"] for action in found["actions"]] == ["NotifyIRC"]


def test_an_event_that_is_not_there_is_refused(refuses: Refuses, store: PostgresStore) -> None:
    store.start(door, "front")

    said = "machine door/front has no event 3 in its log (the last one is 0)"
    assert refuses("show", "door/front", "--at", "3") == said
    assert refuses("diff", "door/front", "0", "3") == said


def test_a_dry_run_shows_what_an_event_would_do(fetches: Fsm, refuses: Refuses, store: PostgresStore) -> None:
    """Also that it would be ignored or held; what would be refused is refused. Nothing changes."""
    store.start(fetching, "a")

    answer = fetches("send", "fetching/a", "Go", '{"name": "x"}', "--dry-run")

    lines = answer.out.splitlines()
    assert (
        lines[0]
        == 'fetching/a would be: Busy {"items": [{"name": "x", "price": 1.0}], "total": 0.0} (applied)'
    )
    assert lines[1] == '  -> Fetch {"name": "x", "price": 1.0}'
    assert lines[2] == '  -> After {"delay": 60, "event": {"name": "Nag", "payload": {}}, "name": "nag"}'
    assert lines[3].startswith('  -> Tell {"text": "a at ')
    assert store.get(fetching, "a").seq == 0
    assert "no edge for Nag in state Idle" in refuses("send", "fetching/a", "Nag", "--dry-run")


def test_a_dry_run_says_that_an_event_would_be_held_or_ignored(fsm: Fsm) -> None:
    fsm("start", "patient/one")
    fsm("start", "door/front")

    held = fsm("send", "patient/one", "Push", "--dry-run", "--json").json
    ignored = fsm("send", "door/front", "Open", "--dry-run", "--json").json

    assert held == {
        "dry_run": True, "outcome": "held", "state_name": "Counting", "state": {"coins": 0}, "actions": [],
    }  # fmt: skip
    assert (ignored["outcome"], ignored["state_name"]) == ("ignored", "Opened")
    assert fsm("show", "patient/one", "--json").json["held_events"] == 0


def test_sound_records_have_no_findings(fetches: Fsm, store: PostgresStore) -> None:
    store.start(fetching, "a")
    store.advance(fetching, "a", Go("x"))
    store.start(door, "front")

    assert fetches("fsck") == (0, "no findings in 2 machines, 3 events\n", "")
    assert fetches("fsck", "door").out == "no findings in 1 machine, 1 event\n"
    assert fetches("fsck", "fetching/a", "--json").json == {
        "machines": 1, "events": 2, "unknown": {}, "findings": [],
    }  # fmt: skip


def test_findings_are_listed_and_the_exit_status_is_1(
    fetches: Fsm, store: PostgresStore, engine: Engine
) -> None:
    """With the machine and the event; rows without a machine only where all are looked at."""
    store.start(fetching, "a")
    store.advance(fetching, "a", Go("x"))
    gone = store.start(door, "gone")
    do(engine, "DELETE FROM fsm.machines WHERE key = 'gone'")
    do(engine, "UPDATE fsm.actions SET queue = 'slow' WHERE name = 'Fetch'")

    answer = fetches("fsck")

    assert (answer.status, answer.err) == (1, "")
    assert answer.out.splitlines() == [
        "action  fetching/a, event 1: 1.0: Fetch: its queue is 'slow', not 'fetch'",
        f"orphan  {gone.id}: 1 row of actions without a machine",
        f"orphan  {gone.id}: 1 row of events without a machine",
        "3 findings in 1 machine, 2 events",
    ]
    assert fetches("fsck", "fetching", "--json").json["findings"] == [
        {
            "code": "action", "machine": "fetching", "key": "a", "seq": 1,
            "message": "1.0: Fetch: its queue is 'slow', not 'fetch'",
        }
    ]  # fmt: skip


def test_machines_whose_code_is_not_here_are_counted(fsm: Fsm, store: PostgresStore) -> None:
    store.start(fetching, "a")
    store.start(door, "front")

    answer = fsm("fsck")

    said = "no findings in 2 machines, 1 event; not replayed, their code is not here: fetching v1 (1)\n"
    assert answer == (0, said, "")


def test_a_machine_that_is_not_there_cannot_be_checked(refuses: Refuses) -> None:
    assert refuses("fsck", "dor").startswith("no machine 'dor' is registered here")
    assert refuses("fsck", "door/none") == "there is no machine door/none"
    assert refuses("check-upgrade", "dor").startswith("no machine 'dor' is registered here")
    assert refuses("check-upgrade", "--since", "soon").startswith("'soon' is no span")


def test_an_upgrade_that_decides_otherwise_is_found(
    fetches: Fsm, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first event of each machine, with what was recorded and what it would be now; those of the time asked for only."""
    for key in ("a", "b"):
        store.start(fetching, key)
    for event in (Go("x"), Go("y"), Nag()):
        store.advance(fetching, "a", event)
    assert fetches("check-upgrade").out == "no differences in 2 machines, 5 events\n"
    monkeypatch.setenv("FSM_MACHINES", "examples.door:door tests.cli.fetching_taxed:fetching")

    answer = fetches("check-upgrade", "--since", "1h", "fetching")

    assert (answer.status, answer.err) == (1, "")
    assert answer.out.splitlines() == [
        "fetching/a, event 1, Go:",
        '  action 0: recorded Fetch {"name":"x","price":1.0}; now Fetch {"name":"x","price":1.5}',
        "1 difference in 2 machines, 5 events",
    ]
    found = fetches("check-upgrade", "--json").json
    assert (found["machines"], found["differing"], found["unknown"]) == (2, 1, {})
    (difference,) = found["differences"]
    assert (difference["key"], difference["seq"], difference["error"], difference["state"]) == (
        "a",
        1,
        None,
        [],
    )
    assert fetches("check-upgrade", "--since", "0s").out == "no differences in 0 machines, 0 events\n"


def test_lost_actions_are_restored(
    fetches: Fsm, refuses: Refuses, store: PostgresStore, engine: Engine
) -> None:
    started = store.start(fetching, "a")
    store.advance(fetching, "a", Go("x"))
    do(engine, "DELETE FROM fsm.actions WHERE name = 'Fetch'")

    assert fetches("restore", "fetching/a").out == f"{started.id}.1.0\nrestored 1 action\n"
    assert fetches("restore", "fetching/a", "--json").json == {"actions": []}
    store.start(door, "front")
    assert refuses("restore", "door/front") == "machine 'door' declares no restore for state Opened"
