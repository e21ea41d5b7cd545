"""Each verb does what it says, for a person and as JSON."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from examples.door import Close, Closed, Locked, door
from fsm_core.postgres import PostgresStore
from tests.cli.support import Fsm, fail

SEVEN = """\
{"event": "Close"}
{"event": "Open", "payload": {}}

{"event": "Close", "payload": null}
{"event": "Lock", "payload": {"code": 1234}}
{"event": "Unlock", "payload": {"code": 1234}}
{"event": "Lock", "payload": {"code": 4567}}
{"event": "Unlock", "payload": {"code": 1234}}
"""


def test_a_machine_is_started_once(fsm: Fsm, store: PostgresStore) -> None:
    first = fsm("start", "door/front")
    second = fsm("start", "door/front", "Locked", '{"code": 1}')

    assert first == (0, "door/front: Opened, seq 0, live\n", "")
    assert second == (0, "door/front: Opened, seq 0, live (it was there already)\n", "")
    assert store.get(door, "front").seq == 0


def test_a_machine_starts_in_the_state_given_and_with_a_key_made_up(fsm: Fsm, store: PostgresStore) -> None:
    answer = fsm("start", "door", "Locked", '{"code": 7, "attempts": 1}', "--json").json

    assert store.get(door, answer["key"]).state == Locked(code=7, attempts=1)
    assert {
        name: answer[name] for name in ("machine", "state_name", "state", "seq", "status", "duplicate")
    } == {
        "machine": "door",
        "state_name": "Locked",
        "state": {"code": 7, "attempts": 1},
        "seq": 0,
        "status": "live",
        "duplicate": False,
    }


def test_a_key_may_hold_slashes_and_any_printable_text(fsm: Fsm, store: PostgresStore) -> None:
    fsm("start", "door/house/1 [red]/Tür")

    assert store.get(door, "house/1 [red]/Tür").seq == 0
    assert "door/house/1 [red]/Tür" in fsm("machines").out


def test_an_event_is_sent(fsm: Fsm, store: PostgresStore) -> None:
    fsm("start", "door/front")

    assert fsm("send", "door/front", "Close") == (0, "door/front: Closed, seq 1, live\n", "")
    answer = fsm("send", "door/front", "Lock", '{"code": 1234}', "--expected-seq", "1", "--json").json

    assert (answer["state_name"], answer["state"], answer["seq"]) == (
        "Locked",
        {"code": 1234, "attempts": 3},
        2,
    )
    assert store.get(door, "front").state == Locked(1234)


def test_a_repeated_dedup_key_says_so(fsm: Fsm, store: PostgresStore) -> None:
    fsm("start", "door/front")
    fsm("send", "door/front", "Close", "--dedup-key", "a")

    answer = fsm("send", "door/front", "Close", "--dedup-key", "a")

    assert answer == (0, "door/front: Closed, seq 1, live (a duplicate; nothing changed)\n", "")
    assert fsm("send", "door/front", "Close", "--dedup-key", "a", "--json").json["duplicate"] is True
    assert store.get(door, "front").seq == 1


def test_an_event_that_comes_too_early_is_held(fsm: Fsm) -> None:
    fsm("start", "patient/one")

    held = fsm("send", "patient/one", "Push")

    assert held.out == 'patient/one: Counting {"coins": 0}, seq 0, live (held until it can be taken)\n'
    assert fsm("show", "patient/one", "--json").json["held_events"] == 1
    assert "held events" in fsm("show", "patient/one").out


def test_an_event_is_read_with_the_classes_of_the_row_s_own_version(fsm: Fsm, store: PostgresStore) -> None:
    from tests.cli.machines import new, old

    store.start(old, "first")
    store.start(new, "second")

    assert fsm("send", "aging/first", "Ping").status == 0
    assert fsm("send", "aging/second", "Pong").status == 0
    assert fsm("send", "aging/first", "Pong").status == 2


def test_lines_are_applied_in_their_order(fsm: Fsm, store: PostgresStore, tmp_path: Path) -> None:
    fsm("start", "door/front")
    file = tmp_path / "seven.jsonl"
    file.write_text(SEVEN)

    assert fsm("send", "door/front", "--file", str(file)) == (0, "7 applied\n", "")
    assert store.get(door, "front").state == Locked(code=4567, attempts=2)


def test_lines_address_machines_themselves_and_may_come_on_standard_input(
    fsm: Fsm, store: PostgresStore
) -> None:
    fsm("start", "door/a/b")
    fsm("start", "door/7")
    lines = """{"machine": "door", "key": "a/b", "event": "Close", "dedup_key": "x"}
        {"machine": "door", "key": 7, "event": "Close", "payload": {}}
        {"machine": "door", "key": "a/b", "event": "Close", "dedup_key": "x"}"""

    answer = fsm("send", "--file", "-", "--json", stdin=lines)

    assert answer.json == {"applied": 2, "duplicates": 1, "held": 0}
    assert store.get(door, "a/b").state == store.get(door, "7").state == Closed()


def test_a_file_without_lines_applies_nothing(fsm: Fsm) -> None:
    assert fsm("send", "--file", "-") == (0, "0 applied\n", "")


def test_machines_are_listed_and_filtered(fsm: Fsm, store: PostgresStore) -> None:
    for key in ("a", "b"):
        store.start(door, key)
    store.advance(door, "a", Close())
    fsm("start", "patient/c")

    listed = fsm("machines", "--json").json

    assert [(m["machine"], m["key"], m["state_name"]) for m in listed] == [
        ("patient", "c", "Counting"),
        ("door", "a", "Closed"),
        ("door", "b", "Opened"),
    ]
    assert [m["key"] for m in fsm("machines", "--machine", "door", "--state", "Closed", "--json").json] == [
        "a"
    ]
    assert [m["key"] for m in fsm("machines", "--status", "live", "--limit", "1", "--json").json] == ["c"]
    assert fsm("machines", "--status", "done", "--json").json == []
    table = fsm("machines").out.splitlines()
    assert table[0].split() == ["machine", "state", "status", "seq", "version", "changed", "(UTC)"]
    assert table[1].split()[:6] == ["patient/c", "Counting", '{"coins":', "0}", "live", "0"]
    assert fsm("machines", "--machine", "none").out == "no machines\n"


def test_looking_needs_no_machines_to_be_known(
    fsm: Fsm, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.start(door, "front")
    monkeypatch.setenv("FSM_MACHINES", "")

    for words in (("machines",), ("show", "door/front"), ("history", "door/front"), ("actions",)):
        assert fsm(*words).status == 0
        assert fsm(*words, "--json").json
    assert fsm("cancel", "door/front").status == 0


def test_show_tells_the_state_and_what_is_open(fsm: Fsm, store: PostgresStore, engine: Engine) -> None:
    now = store.start(door, "front", Locked(1234))
    fail(engine, "front", 0)

    shown = fsm("show", "door/front", "--json").json
    text = fsm("show", "door/front").out

    assert shown["state"] == {"code": 1234, "attempts": 3}
    assert (shown["status"], shown["seq"], shown["version"], shown["id"]) == ("live", 0, 1, str(now.id))
    assert datetime.fromisoformat(shown["created_at"]) == now.created_at
    assert [(a["name"], a["status"]) for a in shown["open_actions"]] == [("NotifyIRC", "failed")]
    assert 'Locked {"code": 1234, "attempts": 3}' in text
    assert "OSError: no IRC" in text


def test_history_has_every_event_with_its_actions_and_their_attempts(
    fsm: Fsm, store: PostgresStore, engine: Engine
) -> None:
    store.start(door, "front")
    fsm("send", "door/front", "--file", "-", stdin=SEVEN)
    fail(engine, "front", 7)

    events = fsm("history", "door/front", "--json").json
    text = fsm("history", "door/front").out

    assert [e["name"] for e in events] == [
        "Opened", "Close", "Open", "Close", "Lock", "Unlock", "Lock", "Unlock",
    ]  # fmt: skip
    assert [e["seq"] for e in events] == list(range(8))
    assert sum(len(e["actions"]) for e in events) == 8
    (last,) = events[7]["actions"]
    assert last["payload"] == {"message": "invalid code entered"}
    assert [(a["number"], a["outcome"], a["error"]) for a in last["attempts"]] == [
        (1, "error", "OSError: no IRC"),
        (2, "failed", "OSError: no IRC"),
    ]
    assert last["attempts"][0]["duration"] == pytest.approx(1)
    assert datetime.fromisoformat(events[0]["occurred_at"]) > datetime.now(UTC) - timedelta(minutes=5)
    lines = [line.split() for line in text.splitlines()]
    assert "started as Opened" in text
    assert [line[0] for line in lines if line[0].isdecimal()] == [str(n) for n in range(8)]
    attempts = [" ".join(line[2:]) for line in lines if line[2:3] == ["attempt"]]
    assert attempts == ["attempt 1 error 1.0 s OSError: no IRC", "attempt 2 failed 20 ms OSError: no IRC"]


def test_actions_are_listed_and_filtered(fsm: Fsm, store: PostgresStore, engine: Engine) -> None:
    for key in ("a", "b"):
        store.start(door, key)
    failed = fail(engine, "b", 0, error="line one\nline two \x1b[31m [bold]")

    assert len(fsm("actions", "--json").json) == 2
    (found,) = fsm("actions", "--failed", "--json").json
    assert (found["id"], found["machine"], found["key"], found["attempt"]) == (failed, "door", "b", 2)
    assert fsm("actions", "--status", "failed", "--json").json == [found]
    filters = (
        "--machine",
        "door",
        "--key",
        "b",
        "--action",
        "NotifyIRC",
        "--queue",
        "default",
        "--limit",
        "5",
    )
    assert fsm("actions", *filters, "--json").json == [found]
    assert fsm("actions", "--machine", "other").out == "no actions\n"
    text = fsm("actions", "--failed").out
    assert len(text.splitlines()) == 2
    assert r"line one\nline two \x1b[31m [bold]" in text


def test_a_failed_action_is_put_back_by_its_id(fsm: Fsm, store: PostgresStore, engine: Engine) -> None:
    store.start(door, "front")
    failed = fail(engine, "front", 0)

    answer = fsm("retry", failed)

    assert answer == (0, f"{failed}\nput back 1 action\n", "")
    assert [a["status"] for a in fsm("actions", "--json").json] != ["failed"]


def test_failed_actions_are_put_back_by_filter(fsm: Fsm, store: PostgresStore, engine: Engine) -> None:
    for key in ("a", "b", "c"):
        store.start(door, key)
    ids = [fail(engine, key, 0) for key in ("a", "b", "c")]

    dry = fsm("retry", "--failed", "--machine", "door", "--dry-run", "--json").json
    assert dry == {"dry_run": True, "actions": ids, "more": False}
    assert "would put back 3 actions" in fsm("retry", "--failed", "--dry-run").out
    assert len(fsm("actions", "--failed", "--json").json) == 3

    assert fsm("retry", "--failed", "--key", "b", "--json").json["actions"] == [ids[1]]
    assert fsm("retry", "--failed", "--action", "CallThePolice").out == "no failed actions\n"
    assert fsm("retry", "--failed", "--limit", "1", "--json").json == {
        "dry_run": False, "actions": [ids[0]], "more": True,
    }  # fmt: skip
    assert "put back 1 action\n" in fsm("retry", "--failed").out
    assert fsm("retry", "--failed", "--json").json["actions"] == []


def test_an_action_is_cancelled(fsm: Fsm, store: PostgresStore) -> None:
    store.start(door, "front")
    (action,) = fsm("actions", "--json").json

    assert fsm("cancel", action["id"]).out == f"action {action['id']} is cancelled\n"
    assert [a["status"] for a in fsm("actions", "--json").json] == ["cancelled"]


def test_a_machine_is_cancelled_with_its_actions(fsm: Fsm, store: PostgresStore) -> None:
    store.start(door, "front")
    store.start(door, "back")

    assert (
        fsm("cancel", "door/front").out == "machine door/front is cancelled, and 1 of its actions with it\n"
    )
    assert fsm("cancel", "door/back", "--json").json == {
        "machine": "door", "key": "back", "status": "cancelled", "cancelled_actions": 1,
    }  # fmt: skip
    assert {m["status"] for m in fsm("machines", "--json").json} == {"cancelled"}
    assert "ended (UTC)" in fsm("show", "door/front").out


def test_the_tables_go_up_and_down(
    fsm: Fsm, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)

    empty = fsm("migrate", "status", "--json").json
    needed = empty["needed"]
    assert empty == {"schema": "fsm", "revision": None, "needed": needed, "up_to_date": False}
    assert fsm("migrate", "status").out == f"schema fsm is at no revision: this code needs {needed}\n"
    without = fsm("machines")
    assert (without.status, without.err.count("\n")) == (1, 1)
    assert "fsm migrate" in without.err

    assert fsm("migrate") == (0, f"schema fsm is at {needed}: up to date\n", "")
    assert fsm("migrate").status == 0
    assert fsm("machines", "--json").json == []
    assert fsm("migrate", "down", "base", "--json").json["revision"] is None


def test_another_schema_is_asked_for_by_the_environment(fsm: Fsm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSM_SCHEMA", "elsewhere")

    fsm("migrate")
    fsm("start", "door/front")

    assert [m["key"] for m in fsm("machines", "--json").json] == ["front"]
    monkeypatch.delenv("FSM_SCHEMA")
    assert fsm("machines", "--json").json == []
