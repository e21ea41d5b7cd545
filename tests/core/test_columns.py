"""The columns of a machine's states: a name and a type for each field, whatever its class is made with."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import msgspec
import pydantic
import pytest

from examples.life import life
from fsm_core import Machine
from fsm_core.columns import FIXED, Column, SqlType, columns
from fsm_core.errors import DefinitionError
from tests.core.shapes import Aliased, Model, Renamed


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass(frozen=True)
class Go:
    pass


Number = NewType("Number", int)


@dataclass(frozen=True)
class Plain:
    text: str
    whole: int
    number: Number
    share: float
    yes: bool
    at: datetime
    day: date
    hour: time
    span: timedelta
    price: Decimal
    uid: UUID
    raw: bytes
    colour: Colour
    level: Level
    kind: Literal["a", "b"]
    maybe_at: datetime | None
    bounded: Annotated[int, msgspec.Meta(ge=0)]
    either: int | str
    tags: list[str]
    inner: Renamed
    model: Aliased
    anything: Any
    nothing: None = None


class Checked(pydantic.BaseModel, frozen=True):
    text: pydantic.AnyUrl | None = pydantic.Field(alias="eMail", default=None)
    whole: pydantic.PositiveInt = 1
    share: float = 0.0
    yes: bool = True
    at: pydantic.AwareDatetime
    day: date
    hour: time
    span: timedelta
    price: Decimal | None = None
    uid: UUID
    colour: Colour = Colour.RED
    level: Level = Level.HIGH
    kind: Literal["a"] = "a"
    tags: list[str] = []
    inner: Model | None = None
    called: Callable[[], int] | None = None


class Own(pydantic.BaseModel, frozen=True):
    """It contains itself, so that its schema is a reference; and writes one field its own way."""

    model_config = pydantic.ConfigDict(ser_json_timedelta="float")
    inside: "Own | None" = None
    span: timedelta


class Root(pydantic.RootModel[dict[str, int]], frozen=True):
    pass


class Tagged(msgspec.Struct, frozen=True, tag=True, rename="camel"):
    first_name: str
    age: int = msgspec.field(name="AGE", default=0)


def of(*states: Any) -> dict[str, str]:
    union: Any = states[0]
    for state in states[1:]:
        union |= state
    return {
        c.name: c.type.value for c in columns([Machine("m", states=union, events=Go)]) if c.name == c.field
    }


def test_a_life_has_its_two_dates() -> None:
    """Source: persistent-state-machine, whose record has born_at and died_at. Created and updated are the row's own."""
    assert columns([life]) == (
        Column("born_at", "born_at", SqlType.TIMESTAMP),
        Column("died_at", "died_at", SqlType.TIMESTAMP),
    )
    assert FIXED[-3:] == ("created_at", "updated_at", "ended_at")


def test_each_annotation_has_its_type() -> None:
    assert of(Plain) == {
        "text": "text", "whole": "numeric", "number": "numeric", "share": "double precision", "yes": "boolean",
        "at": "timestamp with time zone", "day": "date", "hour": "time", "span": "interval", "price": "numeric",
        "uid": "uuid", "raw": "text", "colour": "text", "level": "numeric", "kind": "text",
        "maybe_at": "timestamp with time zone", "bounded": "numeric", "either": "jsonb", "tags": "jsonb", "inner": "jsonb",
        "model": "jsonb", "anything": "jsonb", "nothing": "jsonb",
    }  # fmt: skip


def test_a_pydantic_model_is_asked_what_it_writes() -> None:
    assert of(Checked) == {
        "eMail": "text", "whole": "numeric", "share": "double precision", "yes": "boolean",
        "at": "timestamp with time zone", "day": "date", "hour": "time", "span": "interval", "price": "numeric",
        "uid": "uuid", "colour": "text", "level": "numeric", "kind": "text", "tags": "jsonb", "inner": "jsonb",
        "called": "jsonb",
    }  # fmt: skip
    assert of(Own) == {"inside": "jsonb", "span": "double precision"}
    assert of(Root) == {}


def test_a_field_has_the_name_that_its_json_has() -> None:
    """Renamed by msgspec, aliased by pydantic; the tag of a Struct is no field."""
    assert of(Tagged) == {"firstName": "text", "AGE": "numeric"}
    assert of(Aliased, Model) == {
        "firstName": "text",
        "name": "text",
        "when": "timestamp with time zone",
        "price": "numeric",
        "share": "double precision",
    }


@dataclass(frozen=True)
class One:
    same: int
    other: int
    absent: None
    id: int
    state: str
    state_id: str


@dataclass(frozen=True)
class Two:
    same: int | None
    other: str
    absent: date
    more: bool


def test_a_field_of_several_states_is_one_column() -> None:
    """Of their type if they agree, None apart; else jsonb."""
    assert of(One, Two) == {
        "same": "numeric",
        "other": "jsonb",
        "absent": "date",
        "state_id": "text",
        "more": "boolean",
    }


def test_the_versions_of_a_machine_share_its_columns() -> None:
    old, new = Machine("m", states=One, events=Go), Machine("m", states=Two, events=Go, version=2)

    found = columns([new, old])

    assert [c.field for c in found] == ["same", "other", "absent", "more", "id", "state", "state_id"]
    assert {c.field: c.type for c in found}["other"] is SqlType.JSON


def test_a_field_that_is_called_like_a_fixed_column_steps_aside() -> None:
    """And like no other field: the one that is called state_id keeps its name."""
    renamed = {c.field: c.name for c in columns([Machine("m", states=One, events=Go)]) if c.name != c.field}

    assert renamed == {"id": "state_id_", "state": "state_state"}


def test_a_name_that_postgres_would_cut_is_refused() -> None:
    """Two fields might be cut to one column."""
    long = msgspec.defstruct("Long", [("ü" * 32, int)])

    with pytest.raises(DefinitionError, match=r"no column can be called .ü+.: 1 to 63 bytes"):
        columns([Machine("m", states=long, events=Go)])
