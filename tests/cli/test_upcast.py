"""`fsm upcast`: all machines of older versions in the present shape, and what cannot be."""

import pytest
from sqlalchemy import Engine, text

from fsm_core.postgres import PostgresStore
from tests.cli.support import Fsm, Refuses, everything
from tests.store.conformance.test_versions import V1
from tests.workers.trips import desk, till

MACHINES = "tests.workers.trips:later tests.workers.trips:desk"


@pytest.fixture
def upcast(fsm: Fsm, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Fsm:
    """Runs `fsm upcast` beside two machines of version 1, one of which its upcaster cannot take, and a desk."""
    monkeypatch.setenv("FSM_MACHINES", MACHINES)
    store = PostgresStore(engine)
    store.start(desk, "front")
    store.start(till, "a")
    store.start(till, "b", V1.Idle("Plato"))
    return fsm


def test_what_would_fail_is_said_and_nothing_written(upcast: Fsm, engine: Engine) -> None:
    before = everything(engine)

    answer = upcast("upcast", "--dry-run")

    first, *rest = answer.out.splitlines()
    assert (answer.status, answer.err) == (1, "")
    assert first.startswith("till/b: state Idle of version 1: state Idle could not be upcast by ")
    assert rest == [
        "desk: 0 of 0 older machines would be written as version 1",
        "till: 1 of 2 older machines would be written as version 2, 1 cannot be read",
    ]
    assert everything(engine) == before


def test_the_rest_is_written(upcast: Fsm, engine: Engine) -> None:
    answer = upcast("upcast", "till", "--json")

    assert answer.status == 1
    (unread,) = answer.json["unread"]
    assert {**unread, "error": ""} == {
        "machine": "till", "key": "b", "role": "state", "name": "Idle", "version": 1, "error": "",
    }  # fmt: skip
    assert answer.json["machines"] == [
        {"machine": "till", "version": 2, "looked": 2, "older": 2, "written": 1, "busy": 0, "unreadable": 1}
    ]
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT key, version FROM fsm.machines WHERE fsm = 'till' ORDER BY 1"))
        assert [tuple(row) for row in rows] == [("a", 2), ("b", 1)]


def test_nothing_left_is_status_0(upcast: Fsm, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM fsm.machines WHERE key = 'b'"))

    done = "till: 1 of 1 older machine written as version 2\n"
    assert upcast("upcast", "till") == (0, done, "")
    assert upcast("upcast", "till").out == "till: 0 of 0 older machines written as version 2\n"


def test_a_version_that_is_listed_is_left_alone_unless_all_are_meant(
    upcast: Fsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSM_MACHINES", f"{MACHINES} tests.workers.trips:till")

    assert upcast("upcast", "till", "--json").json["machines"][0]["older"] == 0
    assert upcast("upcast", "till", "--json", "--all").json["machines"][0]["written"] == 1


def test_an_unknown_name_is_refused(upcast: Fsm, refuses: Refuses) -> None:
    assert refuses("upcast", "tll").startswith("no machine 'tll' is registered here")
