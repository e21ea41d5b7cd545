"""`fsm view`: a machine's rows as a SQL view, printed, created, replaced and dropped."""

from dataclasses import dataclass

import pytest
from sqlalchemy import Engine, text

from examples.door import Locked, door
from fsm_core import Machine
from fsm_core.postgres import PostgresStore
from tests.cli.support import Fsm, Refuses


@dataclass(frozen=True)
class First:
    was: int
    same: str


@dataclass(frozen=True)
class Second:
    same: str
    more: int


@dataclass(frozen=True)
class Go:
    pass


old = Machine("grown", states=First, events=Go)
young = Machine("grown", states=Second, events=Go, version=2)


def columns_of(engine: Engine, name: str) -> list[str]:
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = :name ORDER BY ordinal_position"
    with engine.connect() as connection:
        return list(connection.scalars(text(query), {"name": name}))


def test_a_view_is_printed_and_nothing_is_created(fsm: Fsm, engine: Engine) -> None:
    status, out, err = fsm("view", "door")

    assert (status, err) == (0, "")
    assert out.startswith('CREATE OR REPLACE VIEW "fsm"."door" AS\nSELECT m.id, m.key,')
    assert out.endswith('COMMENT ON VIEW "fsm"."door" IS \'fsm view of machine door\';\n')
    assert columns_of(engine, "door") == []


def test_printing_reads_no_database(fsm: Fsm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")

    assert fsm("view", "door").status == 0
    away = fsm("view", "door", "--apply")
    assert (away.status, away.out, away.err.count("\n")) == (1, "", 1)
    assert away.err.startswith("fsm: creating view fsm.door: ")


def test_a_view_is_created_replaced_and_dropped(fsm: Fsm, engine: Engine, store: PostgresStore) -> None:
    store.start(door, "front", Locked(1234))

    for _ in range(2):
        assert fsm("view", "door", "--apply") == (
            0,
            "view fsm.door is there, with 2 columns of the state\n",
            "",
        )
    with engine.connect() as connection:
        found = connection.execute(text("SELECT key, state, code, attempts FROM fsm.door")).one()
    assert tuple(found) == ("front", "Locked", 1234, 3)

    assert fsm("view", "door", "--drop") == (0, "view fsm.door is dropped\n", "")
    assert columns_of(engine, "door") == []


def test_changed_columns_are_told(fsm: Fsm, engine: Engine) -> None:
    """They could not be replaced in place, and grants went with the old view."""
    with engine.begin() as connection:
        connection.execute(text("CREATE VIEW fsm.door AS SELECT 1 AS before"))
        connection.execute(text("COMMENT ON VIEW fsm.door IS 'fsm view of machine door'"))

    assert fsm("view", "door", "--apply").out == (
        "view fsm.door is there, with 2 columns of the state; its columns have changed: grant again what was granted on it\n"
    )
    assert columns_of(engine, "door")[-2:] == ["code", "attempts"]


def test_a_view_may_have_another_name_and_a_machine_two_views(fsm: Fsm, engine: Engine) -> None:
    fsm("view", "door", "--apply")

    answer = fsm("view", "door", "--name", "My Doors", "--apply", "--json").json

    sql = answer.pop("sql")
    assert answer == {
        "schema": "fsm", "view": "My Doors", "machine": "door", "applied": True, "dropped": False,
        "columns": [{"name": n, "field": n, "type": "numeric"} for n in ("code", "attempts")],
    }  # fmt: skip
    assert sql == fsm("view", "door", "--name", "My Doors").out
    assert columns_of(engine, "My Doors") == columns_of(engine, "door") != []
    assert fsm("view", "door", "--name", "My Doors", "--drop", "--json").json["dropped"] is True
    assert columns_of(engine, "door") != []


def test_the_versions_that_are_listed_share_one_view(
    fsm: Fsm, engine: Engine, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest says in which order; a row of an old one shows what that one had."""
    assert fsm("view", "aging", "--apply").out == "view fsm.aging is there, with 0 columns of the state\n"
    monkeypatch.setenv("FSM_MACHINES", "tests.cli.test_view:young tests.cli.test_view:old")
    store.start(old, "a", First(was=1, same="x"))
    store.start(young, "b", Second(same="y", more=2))

    fsm("view", "grown", "--apply")

    assert columns_of(engine, "grown")[9:] == ["same", "more", "was"]
    with engine.connect() as connection:
        found = connection.execute(text("SELECT version, same, more, was FROM fsm.grown ORDER BY key")).all()
    assert [tuple(row) for row in found] == [(1, "x", None, 1), (2, "y", 2, None)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("view",), "NAME"),
        (("view", "window"), "no machine 'window' is registered here"),
        (("view", "door", "--apply", "--drop"), "--apply and --drop do not go together"),
        (("view", "door", "--name", ""), "no view can be called ''"),
        (("view", "door", "--name", "x" * 64, "--apply"), "1 to 63 bytes"),
        (("view", "door", "--drop"), "there is no view fsm.door"),
        (("view", "door", "--name", "machines", "--apply"), "fsm.machines is there already, and is no view"),
        (("view", "door", "--name", "machines", "--drop"), "fsm.machines is there already, and is no view"),
    ],
)
def test_a_wrong_call_changes_nothing(refuses: Refuses, words: tuple[str, ...], message: str) -> None:
    assert message in refuses(*words)
