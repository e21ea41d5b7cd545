"""`fsm graph` draws a machine or an instance's path; `fsm check` says what can never be right."""

from pathlib import Path

import pytest

from examples.door import Close, Closed, Lock, Locked, Unlock, door
from fsm_core.postgres import PostgresStore
from tests.cli.machines import Counting, Kick, Push, patient
from tests.cli.support import Fsm, Refuses


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch, fsm: Fsm) -> None:
    monkeypatch.delenv("DATABASE_URL")


def fake_dot(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program called `dot`, alone on the PATH."""
    program = folder / "dot"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.usefixtures("no_database")
def test_a_machine_is_drawn_without_a_database(fsm: Fsm) -> None:
    status, out, err = fsm("graph", "door")

    assert (status, err) == (0, "")
    assert out.startswith("flowchart TD\n")
    assert 's_Closed -->|"Lock"| s_Locked' in out
    assert "linkStyle" not in out
    assert fsm("graph", "door", "--format", "mermaid").out == out
    assert fsm("graph", "door", "--format", "dot").out.startswith('digraph "door" {\n')


@pytest.mark.usefixtures("no_database")
def test_the_newest_version_of_a_machine_is_drawn(fsm: Fsm) -> None:
    assert '"aging v2"' in fsm("graph", "aging", "--format", "dot").out


def test_an_instance_is_drawn_with_its_path(fsm: Fsm, store: PostgresStore) -> None:
    store.start(door, "a/b", Closed())
    for event in (Lock(1), Unlock(2), Close()):  # the last one is ignored, and no step
        store.advance(door, "a/b", event)

    lines = fsm("graph", "door/a/b").out.splitlines()

    links = [line.strip() for line in lines if "-->" in line]
    (styled,) = (line.split()[1] for line in lines if "linkStyle" in line)
    assert [links[int(number)].split("|")[1] for number in styled.split(",")] == [
        '"Lock"', '"Unlock / NotifyIRC ',
    ]  # fmt: skip
    assert any("style s_Locked" in line and "stroke-width:3px" in line for line in lines)
    assert any("style s_Closed" in line and "stroke-width" not in line for line in lines)
    assert not any("style s_Opened" in line or "style s_Disabled" in line for line in lines)


def test_an_instance_that_had_no_event_yet_is_drawn_in_its_state(fsm: Fsm, store: PostgresStore) -> None:
    store.start(door, "front", Locked(1))

    assert 'label="Locked\\nentry / NotifyIRC", style="rounded,filled"' in fsm("graph", "door/front", "--format", "dot").out  # fmt: skip


def test_an_instance_is_drawn_with_the_edges_of_its_own_version(fsm: Fsm, store: PostgresStore) -> None:
    from tests.cli.machines import old

    store.start(old, "first")

    assert '[label="Ping"' in fsm("graph", "aging/first", "--format", "dot").out


def test_a_held_event_is_a_step_when_it_is_taken(fsm: Fsm, store: PostgresStore) -> None:
    store.start(patient, "one", Counting())
    store.advance(patient, "one", Push())
    assert "penwidth" not in "".join(arrows(fsm("graph", "patient/one", "--format", "dot").out))

    store.advance(patient, "one", Kick())

    assert all("penwidth" in arrow for arrow in arrows(fsm("graph", "patient/one", "--format", "dot").out))


def arrows(source: str) -> list[str]:
    return [line for line in source.splitlines() if "->" in line and "(start)" not in line]


def test_a_log_that_does_not_replay_is_named(fsm: Fsm, store: PostgresStore) -> None:
    """The row was written by other code under the same version: its event is unknown to this one."""
    from dataclasses import dataclass

    from fsm_core import Machine
    from tests.cli.machines import New

    @dataclass(frozen=True)
    class Zing:
        pass

    other = Machine("aging", states=New, events=Zing, initial=New())

    @other.on
    def zing(state: New, _event: Zing) -> New:
        return state

    store.start(other, "first")
    store.advance(other, "first", Zing())

    status, out, err = fsm("graph", "aging/first")

    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "aging/first does not replay on this code: event 1, Zing: UnknownType: Zing is no event" in err


def test_svg_is_what_dot_makes_of_it(fsm: Fsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dot(tmp_path, monkeypatch, 'echo "<svg>$1"; while read -r line; do echo "$line"; done')

    answer = fsm("graph", "door", "--format", "svg")

    assert (answer.status, answer.err) == (0, "")
    assert answer.out.startswith('<svg>-Tsvg\ndigraph "door" {\n')


def test_svg_without_dot_is_refused(
    refuses: Refuses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert refuses("graph", "door", "--format", "svg") == (
        "svg needs Graphviz's `dot` on the PATH; --format mermaid and dot do without"
    )


def test_a_dot_that_fails_is_named(refuses: Refuses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dot(tmp_path, monkeypatch, "echo 'no\nfonts' >&2; exit 3")

    assert refuses("graph", "door", "--format", "svg").endswith("/dot failed: no fonts")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("graph",), "NAME[/KEY]"),
        (("graph", "window"), "no machine 'window' is registered here"),
        (("graph", ""), "no machine ''"),
        (("graph", "door/"), "NAME/KEY"),
        (("graph", "/front"), "NAME/KEY"),
        (("graph", "door/nobody"), "there is no machine door/nobody"),
        (("graph", "window/front"), "no machine 'window'"),
        (("graph", "door", "--format", "png"), "'mermaid', 'dot', 'svg'"),
        (("check", "window"), "no machine 'window' is registered here"),
        (("check", "door", "window"), "no machine 'window' is registered here"),
    ],
)
def test_a_wrong_call_is_one_line(refuses: Refuses, words: tuple[str, ...], said: str) -> None:
    assert said in refuses(*words)


@pytest.mark.parametrize("words", [("graph", "door"), ("check",)])
def test_without_machines_there_is_nothing_to_do(
    refuses: Refuses, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("FSM_MACHINES", "")

    assert "no machines are listed" in refuses(*words)


@pytest.mark.usefixtures("no_database")
def test_what_is_found_is_listed_and_the_exit_status_is_1(fsm: Fsm) -> None:
    answer = fsm("check", "turnstile")

    assert (answer.status, answer.err) == (1, "")
    assert [line.split(": ")[:2] for line in answer.out.splitlines()] == [
        ["waits-for-ever  turnstile", "state Counting"],
        ["unhandled-event  turnstile", "event Push"],
    ]


@pytest.mark.usefixtures("no_database")
def test_what_is_found_is_one_json_document(fsm: Fsm) -> None:
    answer = fsm("check", "turnstile", "--json")

    assert (answer.status, answer.err) == (1, "")
    assert answer.json[1:] == [
        {
            "code": "unhandled-event",
            "place": "turnstile: event Push",
            "subject": "Push",
            "message": "no state has an edge for it",
            "accepted": None,
        }
    ]


@pytest.mark.usefixtures("no_database")
def test_what_is_accepted_is_shown_when_asked_for_and_the_exit_status_is_0(fsm: Fsm) -> None:
    assert fsm("check", "door") == (0, "no findings in 1 machine, 3 accepted (see --all)\n", "")
    assert fsm("check", "door", "--json") == (0, "[]\n", "")

    status, out, err = fsm("check", "door", "--all")

    assert (status, err, out.count("\n")) == (0, "", 3)
    assert out.startswith("dead-end  door: state Disabled: no edge takes an event there; ")
    assert out.splitlines()[0].endswith(" (accepted: the police will have to unlock it)")
    accepted = [found["accepted"] for found in fsm("check", "door", "--all", "--json").json]
    assert accepted == [
        door.accepted[key] for key in ("dead-end:Disabled", "unhandled-failure", "unhandled-failure")
    ]


@pytest.mark.usefixtures("no_database")
def test_what_is_not_accepted_counts_beside_what_is(fsm: Fsm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "accepted", {"dead-end": "as it should be", "dead-end:Opened": "stale"})

    status, out, _ = fsm("check", "door")

    assert status == 1
    assert [line.partition("  ")[0] for line in out.splitlines()] == [
        "unhandled-failure", "unhandled-failure", "stale-acceptance",
    ]  # fmt: skip


@pytest.mark.usefixtures("no_database")
def test_a_sound_machine_is_said_to_be_one_and_the_exit_status_is_0(fsm: Fsm) -> None:
    """Both versions of it are checked."""
    assert fsm("check", "aging") == (0, "no findings in 2 machines\n", "")
    assert fsm("check", "aging", "--json") == (0, "[]\n", "")


@pytest.mark.usefixtures("no_database")
def test_without_a_name_every_machine_is_checked(fsm: Fsm) -> None:
    places = [found["place"].partition(":")[0] for found in fsm("check", "--json").json]

    assert list(dict.fromkeys(places)) == ["patient", "turnstile"]


@pytest.mark.usefixtures("no_database")
def test_actions_are_held_against_the_effects_that_are_listed(
    fsm: Fsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSM_MACHINES", "tests.cli.machines:no_effects")

    codes = [found["code"] for found in fsm("check", "--json").json]

    assert codes.count("no-effect") == 2
