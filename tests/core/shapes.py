"""Classes of every kind that a payload may be made of."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Literal
from uuid import UUID

import msgspec
import pydantic


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass(frozen=True)
class Point:
    x: int = 0
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class Everything:
    when: datetime
    day: date
    span: timedelta
    id: UUID
    price: Decimal
    colour: Colour
    level: Level
    raw: bytes
    tags: frozenset[str]
    pair: tuple[int, str]
    many: tuple[Point, ...]
    maybe: Point | None
    by_number: dict[int, str]
    kind: Literal["a", "b"]
    big: int
    nothing: None = None
    free: dict[str, Any] = field(default_factory=dict)


class Packed(msgspec.Struct, frozen=True):
    name: str
    at: Point
    amount: Decimal = Decimal(0)


class Renamed(msgspec.Struct, frozen=True, rename="camel"):
    first_name: str


class Listed(msgspec.Struct, frozen=True, array_like=True):
    name: str


class Model(pydantic.BaseModel, frozen=True):
    name: str
    when: datetime | None = None
    price: Decimal = Decimal(0)
    share: float = 0.0


class Aliased(pydantic.BaseModel, frozen=True):
    first_name: str = pydantic.Field(alias="firstName")


class Root(pydantic.RootModel[list[int]], frozen=True):
    pass


@dataclass(frozen=True)
class Holder:
    model: Model
    packed: Packed


@dataclass(frozen=True)
class Open:
    """Its field takes anything: only the codec itself can refuse what is in it."""

    value: Any = None


@dataclass(frozen=True)
class Number:
    n: int


@dataclass(frozen=True)
class Strict:
    n: int

    def __post_init__(self) -> None:
        assert self.n > 0, "n is positive"
