"""`fsm partitions`: made on a fresh installation, listed, made ahead, and dropped; `fsm prune --forget` drops what it can."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from fsm_core.postgres import PostgresStore
from fsm_core.postgres.partitions import Every, bound
from tests.cli.machines import Counting, turnstile
from tests.cli.support import Fsm, Refuses

LAST_YEAR = datetime.now(UTC) - timedelta(days=400)


def test_they_are_made_listed_and_made_ahead(fsm: Fsm) -> None:
    assert fsm("partitions").out == "the tables are not partitioned\n"

    assert (
        fsm("partitions", "enable", "--every", "week", "--ahead", "1").out
        == "partitioned by week: 3 partitions\n"
    )

    names = [each["name"] for each in fsm("partitions", "--json").json]
    monday = Every.WEEK.begin(datetime.now(UTC))
    assert names == [f"_{monday:%Y%m%d}", f"_{monday + timedelta(days=7):%Y%m%d}", "_default"]
    assert names[0] in fsm("partitions").out
    assert fsm("partitions", "extend", "--ahead", "1").out == "all are there\n"
    assert fsm("partitions", "extend").out == f"made: _{monday + timedelta(days=14):%Y%m%d}\n"


def made_then(engine: Engine) -> str:
    """A range of last year with one machine that lived and ended in it; its name."""
    day = Every.DAY.begin(LAST_YEAR)
    with engine.begin() as connection:
        for table in ("events", "actions", "attempts"):
            connection.exec_driver_sql(
                f"CREATE TABLE fsm.{table}_{day:%Y%m%d} PARTITION OF fsm.{table}"
                f" FOR VALUES FROM ('{bound(day)}') TO ('{bound(Every.DAY.end(day))}')"
            )
        machine = """
            INSERT INTO fsm.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at, ended_at)
            VALUES (:id, 'turnstile', 'old', 1, 'done', 'Counting', '{}', 0, 1, :at, :at, :at)"""
        connection.execute(text(machine), {"id": bound(day), "at": LAST_YEAR})
    return f"_{day:%Y%m%d}"


@pytest.mark.parametrize("command", [("partitions", "drop", "--older-than"), ("prune", "--forget")])
def test_what_is_over_is_dropped(
    fsm: Fsm, engine: Engine, store: PostgresStore, command: tuple[str, ...]
) -> None:
    fsm("partitions", "enable", "--every", "day")
    store.start(turnstile, 1, Counting())
    name = made_then(engine)

    assert fsm(*command, "365d").out.splitlines()[0] == f"dropped {name}: 1 machine forgotten, 0 kept"
    assert fsm(*command, "365d", "--json").json["ranges"] == []
    assert [record.key for record in store.machines()] == ["1"]


def test_a_dry_run_drops_nothing(fsm: Fsm, engine: Engine) -> None:
    fsm("partitions", "enable", "--every", "day")
    name = made_then(engine)

    assert "ranges" not in fsm("prune", "--forget", "365d", "--dry-run", "--json").json
    assert name in [each["name"] for each in fsm("partitions", "--json").json]


def test_bad_arguments_are_refused(fsm: Fsm, refuses: Refuses, store: PostgresStore) -> None:
    assert "--every is day, week or month, not 'year'" in refuses("partitions", "enable", "--every", "year")
    assert "not partitioned" in refuses("partitions", "extend")
    assert "not partitioned" in refuses("partitions", "drop", "--older-than", "1d")
    store.start(turnstile, 1, Counting())
    assert "have rows" in refuses("partitions", "enable")
