"""A SQL view of a machine, on a real PostgreSQL: typed, safe with any row, served by the index, and never in another's place."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pydantic
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy import Engine

from examples.life import Birth, Death, Gestating, life
from fsm_core import Machine
from fsm_core.columns import columns
from fsm_core.errors import ConfigurationError, DatabaseError, NotFound, Refused, SchemaError
from fsm_core.postgres import PostgresStore, view
from fsm_core.postgres.migrate import upgrade
from fsm_core.postgres.view import View
from fsm_core.registry import AnyMachine
from tests.store.world import plain
from tests.waiting import eventually

LIFE = View("fsm", "life", "life", columns([life]))


ONE = UUID(int=1)


@dataclass(frozen=True)
class Go:
    pass


@dataclass(frozen=True)
class Full:
    text: str = ""
    whole: int = 0
    share: float = 0.0
    yes: bool = False
    at: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    day: date = date(2026, 1, 2)
    hour: time = time(1)
    span: timedelta = timedelta(0)
    price: Decimal = Decimal(0)
    uid: UUID = ONE
    maybe: datetime | None = None
    tags: tuple[str, ...] | None = None


full = Machine("full", states=Full, events=Go)
FULL = View("fsm", "full", "full", columns([full]))

VALUES = [
    Full(),
    Full(
        text="it's 100 % \\ \"ü\" 😀\n", whole=10**99, share=1.7e308, yes=True,
        at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=5, minutes=30))), day=date(9999, 12, 31),
        hour=time(23, 59, 59, 999999), span=timedelta(days=-400, hours=3, microseconds=5), price=Decimal("19.9900"),
        uid=UUID(int=2**127 + 1), maybe=datetime(1, 1, 2, tzinfo=UTC), tags=("a", "b"),
    ),
    Full(whole=-(10**99), share=-5e-324, span=timedelta(microseconds=-1), price=Decimal("1E+5"), day=date(1, 1, 1), tags=()),
    Full(span=timedelta(days=999_999_999, hours=1, seconds=1), share=1e16, price=Decimal("-0.000001")),
]  # fmt: skip


def rows(url: str, statement: str, *parameters: object) -> list[dict[str, Any]]:
    with psycopg.connect(plain(url), row_factory=dict_row) as connection:
        return connection.execute(statement.encode(), parameters).fetchall()


def types(url: str, name: str) -> dict[str, str]:
    query = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position"
    return {row["column_name"]: row["data_type"] for row in rows(url, query, name)}


def test_a_life_has_a_typed_column_for_each_field(database_url: str, engine: Engine) -> None:
    """Source: persistent-state-machine: state_type, created_at, updated_at, born_at, died_at."""
    store = PostgresStore(engine)
    store.start(life, "ada")
    store.start(life, "nobody", Gestating())
    born, died = store.advance(life, "ada", Birth()), store.advance(life, "ada", Death())
    assert LIFE.create(database_url) is False

    found = {row["key"]: row for row in rows(database_url, "SELECT * FROM fsm.life")}

    assert types(database_url, "life") == {
        "id": "uuid", "key": "text", "status": "text", "state": "text", "seq": "integer", "version": "integer",
        "created_at": "timestamp with time zone", "updated_at": "timestamp with time zone",
        "ended_at": "timestamp with time zone", "born_at": "timestamp with time zone", "died_at": "timestamp with time zone",
    }  # fmt: skip
    assert found["ada"] == {
        "id": died.id, "key": "ada", "status": "done", "state": "Dead", "seq": 2, "version": 1,
        "created_at": died.created_at, "updated_at": died.updated_at, "ended_at": died.ended_at,
        "born_at": born.updated_at, "died_at": died.updated_at,
    }  # fmt: skip
    assert (found["nobody"]["state"], found["nobody"]["born_at"], found["nobody"]["died_at"]) == (
        "Gestating", None, None,
    )  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_every_value_reads_as_what_it_is(database_url: str, engine: Engine, value: Full) -> None:
    """As the driver reads its type; a negative interval, whose sign comes before its P, and an int of 100 digits included."""
    PostgresStore(engine).start(full, "a", value)
    FULL.create(database_url)

    (row,) = rows(database_url, "SELECT * FROM fsm.full")

    for column in FULL.columns:
        expected = getattr(value, column.field)
        assert row[column.name] == (list(expected) if isinstance(expected, tuple) else expected)


WRONG = {
    "whole": ["many", "", True, [1], {"a": 1}],
    "share": ["much", "1e400", [1.5]],
    "yes": ["yes", "t", 1, []],
    "at": ["today", "now", "infinity", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00+99:00", 5, {}],
    "day": ["tomorrow", "2026-02-30", 20260101000, "-infinity"],
    "hour": ["25:00:00", "allballs", "now", "01:02:03+02:00"],
    "span": ["1 day", "P", "-", "--P1D", "P99999999999D", 90],
    "price": ["cheap", "1e999999", {}],
    "uid": ["1", 1, "00000000-0000-0000-0000-00000000000g"],
}


@pytest.mark.parametrize("field", sorted(WRONG))
def test_a_value_that_its_column_cannot_hold_is_null_and_hides_no_row(
    database_url: str, engine: Engine, field: str
) -> None:
    """Whatever JSON another version, or somebody's UPDATE, has left there: the view is read to its end."""
    store = PostgresStore(engine)
    FULL.create(database_url)
    for number, value in enumerate(WRONG[field]):
        store.start(full, number, Full())
        with engine.begin() as connection:
            state = json.dumps({field: value, "text": f"row {number}"})
            connection.exec_driver_sql(
                "UPDATE fsm.machines SET state = %s::jsonb WHERE key = %s", (state, str(number))
            )

    found = rows(database_url, f"SELECT {field}, text FROM fsm.full ORDER BY key")

    assert found == [{field: None, "text": f"row {number}"} for number in range(len(WRONG[field]))]


def test_none_is_null_in_every_column(database_url: str, engine: Engine) -> None:
    """JSON's null is no value of SQL's, in a jsonb column either."""
    PostgresStore(engine).start(full, "a", Full(maybe=None, tags=None))
    FULL.create(database_url)

    assert rows(database_url, "SELECT maybe IS NULL AS maybe, tags IS NULL AS tags FROM fsm.full") == [
        {"maybe": True, "tags": True}
    ]


def test_a_datetime_without_a_zone_is_utc_for_every_reader(database_url: str, engine: Engine) -> None:
    """Not the reader's own time."""
    PostgresStore(engine).start(full, "a", Full(at=datetime(2026, 1, 2, 3)))  # noqa: DTZ001 - that is the point
    FULL.create(database_url)

    with psycopg.connect(plain(database_url)) as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        (found,) = connection.execute("SELECT at FROM fsm.full").fetchone() or (None,)

    assert found == datetime(2026, 1, 2, 3, tzinfo=UTC)


def test_a_view_shows_its_machine_only_and_every_version_but_nobody_unborn(
    database_url: str, engine: Engine
) -> None:
    """A row keeps its version; what it does not have is NULL."""
    store = PostgresStore(engine)
    store.start(full, "a", Full(whole=3))
    store.start(life, "ada")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO fsm.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at)"
            " VALUES (gen_random_uuid(), 'full', 'old', 0, 'live', 'Gone', '{\"whole\": 2, \"was\": 1}', 0, 1, now(), now()),"
            " (gen_random_uuid(), 'full', 'early', 1, 'unborn', NULL, NULL, 0, 1, now(), now())"
        )
    FULL.create(database_url)

    assert rows(database_url, "SELECT key, version, state, whole, at FROM fsm.full ORDER BY key") == [
        {"key": "a", "version": 1, "state": "Full", "whole": 3, "at": Full().at},
        {"key": "old", "version": 0, "state": "Gone", "whole": 2, "at": None},
    ]


def test_one_key_is_looked_up_by_the_index(database_url: str, engine: Engine) -> None:
    """The view is no barrier to the planner: machines_address serves name and key, and no row is read besides."""
    PostgresStore(engine).start(life, "ada")
    LIFE.create(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO fsm.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at)"
            " SELECT gen_random_uuid(), CASE mod(n, 2) WHEN 0 THEN 'life' ELSE 'other' END, 'k' || n, 1, 'live', 'Gestating', '{}', 0, 1,"
            " now(), now() FROM generate_series(1, 5000) n"
        )
        connection.exec_driver_sql("ANALYZE fsm.machines")

    query = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT state, born_at FROM fsm.life WHERE key = 'ada' AND died_at IS NULL"
    plan = rows(database_url, query)[0]["QUERY PLAN"][0]["Plan"]

    assert (plan["Node Type"], plan["Index Name"]) == ("Index Scan", "machines_address")
    assert "fsm = 'life'" in plan["Index Cond"]
    assert "key = 'ada'" in plan["Index Cond"]
    assert (plan["Actual Rows"], plan["Rows Removed by Filter"] if "Filter" in plan else 0) == (1, 0)


def changed(machine: AnyMachine, *fields: tuple[str, type]) -> View:
    """The view of `machine` with other columns."""
    state = msgspec.defstruct("Changed", [(name, of, msgspec.field(default=None)) for name, of in fields])
    other: AnyMachine = Machine(machine.name, states=state, events=Go, version=2)
    return View("fsm", machine.name, machine.name, columns([other]))


def test_the_same_columns_are_replaced_in_place(database_url: str) -> None:
    """What is made of the view, and granted on it, stays; new columns at the end as well."""
    LIFE.create(database_url)
    rows_of(database_url, "CREATE VIEW public.report AS SELECT key, born_at FROM fsm.life")
    rows_of(database_url, "GRANT SELECT ON fsm.life TO public")

    assert LIFE.create(database_url) is False
    more = changed(life, ("born_at", datetime), ("died_at", datetime), ("name", str))
    assert more.create(database_url) is False

    assert types(database_url, "life")["name"] == "text"
    (row,) = rows(database_url, "SELECT relacl::text AS granted FROM pg_class WHERE relname = 'life'")
    assert "=r/" in row["granted"]


def test_other_columns_drop_and_create_in_one_transaction(database_url: str, engine: Engine) -> None:
    """And say so, because grants are gone with it."""
    PostgresStore(engine).start(life, "ada")
    LIFE.create(database_url)

    assert changed(life, ("name", str)).create(database_url) is True

    assert list(types(database_url, "life"))[9:] == ["name"]
    assert [row["key"] for row in rows(database_url, "SELECT key FROM fsm.life")] == ["ada"]


def test_what_is_made_of_a_view_keeps_it(database_url: str) -> None:
    """One line says what; the view stays as it was."""
    LIFE.create(database_url)
    rows_of(database_url, "CREATE VIEW public.report AS SELECT key, born_at FROM fsm.life")

    for call in (changed(life, ("name", str)).create, LIFE.drop):
        with pytest.raises(
            Refused,
            match=r"view fsm.life cannot be dropped, nor its columns changed: view report depends on view",
        ):
            call(database_url)

    assert list(types(database_url, "life"))[9:] == ["born_at", "died_at"]


def test_a_view_is_dropped(database_url: str) -> None:
    LIFE.create(database_url)
    LIFE.drop(database_url)

    assert types(database_url, "life") == {}
    with pytest.raises(NotFound, match=r"there is no view fsm.life"):
        LIFE.drop(database_url)


@pytest.mark.parametrize("name", ["machines", "events", "schema_version", "actions_due", "own", "life"])
def test_what_is_there_already_is_neither_replaced_nor_dropped(database_url: str, name: str) -> None:
    """A table, an index, somebody's own view, the view of another machine."""
    rows_of(database_url, "CREATE VIEW fsm.own AS SELECT 1 AS a")
    LIFE.create(database_url)
    before = rows(database_url, "SELECT oid, relname, relkind::text FROM pg_class ORDER BY oid")

    taking = View("fsm", name, "full", FULL.columns)
    for call in (taking.create, taking.drop):
        with pytest.raises(Refused, match=rf"fsm.{name} is there already, and is no view of machine 'full'"):
            call(database_url)

    assert rows(database_url, "SELECT oid, relname, relkind::text FROM pg_class ORDER BY oid") == before


ODD = "quo\"ted %s %% {0} \\ '; DROP TABLE fsm.machines; --"


@pytest.mark.parametrize("schema", ["fsm", "Odd Näme", 'quo"ted'])
@pytest.mark.parametrize("name", ["odd-näme.1", "select", ODD[:63]])
def test_names_are_quoted(empty_database_url: str, engine: Engine, schema: str, name: str) -> None:
    """Of schemas, views, machines and fields: what stands in them is never SQL."""
    upgrade(empty_database_url, schema=schema)
    state = pydantic.create_model("Odd", odd=(str, pydantic.Field(alias=ODD[:63])), id=(int, ...))
    machine: AnyMachine = Machine("odd-näme.1", states=state, events=Go)
    made = View(schema, name, machine.name, columns([machine]))
    with psycopg.connect(plain(empty_database_url), row_factory=dict_row) as connection:
        connection.execute(
            sql.SQL(
                "INSERT INTO {}.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at)"
                " VALUES (gen_random_uuid(), {}, 'a', 1, 'live', 'Odd', {}, 0, 1, now(), now())"
            ).format(
                sql.Identifier(schema),
                sql.Literal(machine.name),
                sql.Literal(json.dumps({ODD[:63]: "x", "id": 7})),
            )
        )
        connection.commit()

        made.create(empty_database_url)
        query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, name))
        (row,) = connection.execute(query).fetchall()

    assert (row[ODD[:63]], row["state_id"], row["key"]) == ("x", 7, "a")


def test_what_is_printed_is_what_is_created(database_url: str) -> None:
    """Fed to the database by hand, it makes the same view, which `drop` knows as its own."""
    rows_of(database_url, FULL.text())
    by_hand = rows(database_url, "SELECT definition FROM pg_views WHERE viewname = 'full'")

    FULL.drop(database_url)
    FULL.create(database_url)

    assert rows(database_url, "SELECT definition FROM pg_views WHERE viewname = 'full'") == by_hand


def test_a_name_that_postgres_would_cut_is_refused() -> None:
    for name in ("", "ü" * 32, "a\0b"):
        with pytest.raises(ConfigurationError, match="no view can be called"):
            View("fsm", name, "life", LIFE.columns)


def test_a_database_without_tables_says_what_to_do(empty_database_url: str) -> None:
    with pytest.raises(SchemaError, match="run `fsm migrate`"):
        LIFE.create(empty_database_url)


def test_a_server_that_is_too_old_is_told_so(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "LEAST_VERSION", 99)

    with pytest.raises(ConfigurationError, match=r"a view needs PostgreSQL 99 or later, not \d\d$"):
        LIFE.create(database_url)


def test_a_role_that_may_not_create_is_told_so(database_url: str) -> None:
    """One line, with the server's own reason; nothing was made."""
    role = f"reader_{uuid4().hex[:12]}"
    rows_of(database_url, f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA fsm TO {role}; SET ROLE {role}")
    as_reader = database_url + ("&" if "?" in database_url else "?") + f"options=-c%20role%3D{role}"
    try:
        for call in (LIFE.create, changed(life, ("name", str)).create):
            with pytest.raises(DatabaseError, match="permission denied for schema fsm") as caught:
                call(as_reader)
            assert caught.value.sqlstate == "42501"
            assert "creating view fsm.life: " in str(caught.value)
        assert types(database_url, "life") == {}
    finally:
        rows_of(database_url, f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_two_that_replace_one_view_take_turns(database_url: str) -> None:
    """Their columns differ, so that each drops what the other made."""
    views: list[View] = [LIFE, changed(life, ("name", str))]

    with psycopg.connect(plain(database_url)) as gate:
        gate.execute("SELECT pg_advisory_xact_lock(hashtext('fsm.migrate'), hashtext('fsm'))")
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(views[n % 2].create, database_url) for n in range(8)]
            eventually(waiting_for(database_url, 8), what="all wait")
            gate.rollback()
            [call.result(60) for call in calls]

    assert list(types(database_url, "life"))[9:] in (["born_at", "died_at"], ["name"])


def waiting_for(url: str, number: int) -> Callable[[], bool]:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return lambda: rows(url, asked)[0]["count"] == number


def rows_of(url: str, statements: str) -> None:
    """Do what gives no rows."""
    with psycopg.connect(plain(url)) as connection:
        connection.execute(statements.encode())
