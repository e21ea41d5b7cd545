"""The columns that the fields of a machine's states make in SQL: names and types. Pure; knows no database.

msgspec and pydantic are asked what JSON they write for each field; no annotation is read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from msgspec import inspect

from fsm_core.codec import field_names
from fsm_core.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fsm_core.registry import AnyMachine

FIXED = ("id", "key", "status", "state", "seq", "version", "created_at", "updated_at", "ended_at")
"""The columns that every machine has; a field of one of these names becomes `state_<name>`."""

MAX_NAME = 63
"""Bytes of a name in PostgreSQL. What is longer would be cut, and two names may be cut to one."""


class SqlType(StrEnum):
    """What a column holds. An int is a numeric: it has no bound in Python, and a bigint would hide what is beyond it."""

    TEXT = "text"
    BOOLEAN = "boolean"
    NUMERIC = "numeric"
    DOUBLE = "double precision"
    TIMESTAMP = "timestamp with time zone"
    DATE = "date"
    TIME = "time"
    INTERVAL = "interval"
    UUID = "uuid"
    JSON = "jsonb"


@dataclass(frozen=True, slots=True)
class Column:
    """A column `name` of type `type`, read from the `field` of the state's JSON."""

    name: str
    field: str
    type: SqlType


_TYPES: dict[type[inspect.Type], SqlType] = {
    inspect.StrType: SqlType.TEXT,
    inspect.BytesType: SqlType.TEXT,  # base64, as the codec writes it
    inspect.BoolType: SqlType.BOOLEAN,
    inspect.IntType: SqlType.NUMERIC,
    inspect.DecimalType: SqlType.NUMERIC,
    inspect.FloatType: SqlType.DOUBLE,
    inspect.DateTimeType: SqlType.TIMESTAMP,
    inspect.DateType: SqlType.DATE,
    inspect.TimeType: SqlType.TIME,
    inspect.TimeDeltaType: SqlType.INTERVAL,
    inspect.UUIDType: SqlType.UUID,
}
"""What msgspec calls the types of fields."""

_FORMATS = {
    "date-time": SqlType.TIMESTAMP,
    "date": SqlType.DATE,
    "time": SqlType.TIME,
    "duration": SqlType.INTERVAL,
    "uuid": SqlType.UUID,
    "decimal": SqlType.NUMERIC,
}
"""The formats of strings in a JSON schema."""

_KINDS = {
    "string": SqlType.TEXT,
    "boolean": SqlType.BOOLEAN,
    "integer": SqlType.NUMERIC,
    "number": SqlType.DOUBLE,
}
"""The types of a JSON schema."""


def columns(machines: Iterable[AnyMachine]) -> tuple[Column, ...]:
    """One column for each field of the states of `machines`, which are versions of one machine; in their order.

    A field that several states have is one column, of their type if they agree (None apart), else jsonb. One whose name
    is in FIXED becomes `state_<name>`. Raises DefinitionError: a field's name is too long for a column.
    """
    found: dict[str, set[SqlType]] = {}
    for machine in machines:
        for state in machine.states.values():
            for field, types in _fields(state.cls).items():
                found.setdefault(field, set()).update(types)
    names = dict(zip(found, _names(list(found)), strict=True))
    return tuple(
        Column(names[field], field, next(iter(types)) if len(types) == 1 else SqlType.JSON)
        for field, types in found.items()
    )


def _names(fields: Sequence[str]) -> list[str]:
    """A column's name for each field, no two the same."""
    taken = {*FIXED, *fields}
    names = []
    for field in fields:
        name = field
        if field in FIXED:
            name = f"state_{field}"
            while name in taken:
                name += "_"
            taken.add(name)
        if not 0 < len(name.encode()) <= MAX_NAME or "\0" in name:
            raise DefinitionError(
                f"no column can be called {name!r}: 1 to {MAX_NAME} bytes, none of them NUL"
            )
        names.append(name)
    return names


def _fields(cls: type) -> dict[str, set[SqlType]]:
    """The fields of a state in its JSON, with the types that they may have; None is in every column."""
    if hasattr(cls, "model_json_schema"):
        schema = _schema(cls)
        properties: dict[str, Any] = schema.get("properties", {})  # a RootModel has none
        return {
            name: _of_schema(properties[name], schema.get("$defs", {}))
            for name in field_names(cls)
            if name in properties
        }
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType | inspect.DataclassType)  # noqa: S101 - the codec takes no other
    return {field.encode_name: _of_type(field.type) for field in info.fields}


def _of_type(found: inspect.Type) -> set[SqlType]:
    if isinstance(found, inspect.UnionType):
        return {one for part in found.types for one in _of_type(part)}
    if isinstance(found, inspect.NoneType):
        return set()
    if isinstance(found, inspect.EnumType):
        return {_of_value(member.value) for member in found.cls}
    if isinstance(found, inspect.LiteralType):
        return {_of_value(value) for value in found.values}
    return {_TYPES.get(type(found), SqlType.JSON)}


def _of_value(value: object) -> SqlType:
    """The type of one value of an enumeration."""
    return SqlType.TEXT if isinstance(value, str) else SqlType.NUMERIC


def _of_schema(node: dict[str, Any], named: dict[str, Any]) -> set[SqlType]:
    if "$ref" in node:
        return _of_schema(named[node["$ref"].rpartition("/")[2]], named)
    if "anyOf" in node:
        return {one for part in node["anyOf"] for one in _of_schema(part, named)}
    if node.get("type") == "null":
        return set()
    if node.get("type") == "string":
        return {_FORMATS.get(node.get("format", ""), SqlType.TEXT)}
    return {_KINDS.get(node.get("type", ""), SqlType.JSON)}


def _schema(cls: Any) -> dict[str, Any]:
    """What a pydantic model says of the JSON that it writes; a field of which it cannot say anything may be anything."""
    from pydantic.json_schema import GenerateJsonSchema

    class Schema(GenerateJsonSchema):
        def decimal_schema(self, schema: object) -> dict[str, Any]:  # noqa: ARG002 - pydantic's names
            return {"type": "string", "format": "decimal"}

        def handle_invalid_for_json_schema(self, schema: object, error_info: str) -> dict[str, Any]:  # noqa: ARG002
            return {}

    found: dict[str, Any] = cls.model_json_schema(
        by_alias=True, mode="serialization", schema_generator=Schema
    )
    return _of_root(found)


def _of_root(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, where a model that contains itself stands among its own definitions."""
    if "$ref" not in schema:
        return schema
    return {**schema["$defs"][schema["$ref"].rpartition("/")[2]], "$defs": schema["$defs"]}
