"""Array literals: what PostgreSQL reads is what was written."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from fsm_core.postgres.arrays import literal
from fsm_core.types import ActionStatus

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
COLUMNS = {
    "text": TEXT,
    "int": st.integers(-(2**31), 2**31 - 1),
    "bool": st.booleans(),
    "uuid": st.uuids(),
    "bytea": st.binary(),
    "timestamptz": st.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001 - Hypothesis adds the time zone itself
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001
        timezones=st.just(UTC),
    ),
    "interval": st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000)),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_the_server_reads_what_was_written(engine: Engine, column: str) -> None:
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None

        @settings(max_examples=60, deadline=None)
        @given(st.lists(st.none() | COLUMNS[column], max_size=5))
        def reads(values: list[object]) -> None:
            row = driver.execute(f"SELECT %s::{column}[]", [literal(values)]).fetchone()
            assert row == (values,)

        reads()


@pytest.mark.parametrize(
    "word", ["NULL", "null", "", " ", "{", "}", ",", '"', "\\", "'", "a\nb", "{a,b}", '\\"', "%s"]
)
def test_words_that_mean_something_in_a_literal_are_only_words(engine: Engine, word: str) -> None:
    with engine.connect() as connection:
        row = connection.exec_driver_sql("SELECT %s::text[]", (literal([word, None, word]),)).one()
    assert row[0] == [word, None, word]


def test_an_enum_is_its_value_and_nothing_is_the_empty_array() -> None:
    assert literal([ActionStatus.RUNNING, None]) == '{"running",NULL}'
    assert literal([]) == "{}"


class Safe(str):
    """As web frameworks mark their texts."""

    __slots__ = ()


def test_what_the_application_makes_of_a_type_is_written_as_that() -> None:
    assert literal([Safe('a"b'), None]) == '{"a\\"b",NULL}'


def test_what_no_statement_holds_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        literal([UUID(int=1), object()])
