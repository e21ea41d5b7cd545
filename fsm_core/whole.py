"""Defaults that stay in the class: msgspec decodes a dataclass without writing its plain defaults into the instance.

The value reads as it should, but is written without those fields: an event sent from the shell would have another payload,
and another digest, than the same event sent from Python.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_origin

import msgspec
from msgspec import inspect

if TYPE_CHECKING:
    from collections.abc import Callable

_LEAVES = (str, int, float, bool, bytes, type(None))


def filler(form: Any) -> Callable[[Any], None] | None:
    """What writes the defaults of missing fields into a decoded value of this type, and into what it holds.

    None, if there is nothing to write: by what msgspec knows of the type.
    """
    cls, found, again = get_origin(form) or form, set[type](), set[type]()
    try:
        unknown = _collect(inspect.type_info(form), found, again)
    except TypeError:
        unknown = True
    if unknown or any(_defaults(other) for other in (found - {cls}) | again):
        return _walk
    return _fill if cls in found and _defaults(cls) else None


def _collect(info: inspect.Type, found: set[type], again: set[type]) -> bool:
    """The dataclasses in a type, and those that stand in it more than once; returns whether it may hold what nobody knows."""
    if isinstance(info, inspect.DataclassType | inspect.StructType):
        if info.cls in found:
            again.add(info.cls)
            return False
        found.add(info.cls)
        parts = [field.type for field in info.fields]
    elif isinstance(info, inspect.CustomType):
        return True
    else:
        parts = [
            getattr(info, name) for name in ("item_type", "key_type", "value_type") if hasattr(info, name)
        ]
        parts += getattr(info, "types", ()) or getattr(info, "item_types", ())
    open_ = [_collect(part, found, again) for part in parts]
    return any(open_)


@lru_cache(maxsize=4096)
def _defaults(cls: type) -> dict[str, object]:
    """The plain defaults of a dataclass without slots."""
    if not is_dataclass(cls) or not hasattr(cls, "__dict__") or "__slots__" in cls.__dict__:
        return {}
    return {field.name: field.default for field in fields(cls) if field.default is not MISSING}


def _fill(value: Any) -> None:
    defaults = _defaults(type(value))  # type: ignore[arg-type] # mypy takes type[Any] for unhashable
    if not defaults:
        return
    there = value.__dict__
    for name in defaults.keys() - there.keys():
        object.__setattr__(value, name, defaults[name])


def _walk(value: Any) -> None:
    if isinstance(value, _LEAVES):
        return
    if is_dataclass(value):
        _fill(value)
        for field in fields(value):
            _walk(getattr(value, field.name))
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _walk(getattr(value, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            _walk(key)
            _walk(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _walk(item)
