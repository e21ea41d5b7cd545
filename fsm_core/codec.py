"""The typed JSON codec: values of a machine's classes to JSON objects and back, and nothing that JSON cannot hold.

A value is refused here, before any database sees it, if it is too big, too deep, holds NaN, an infinity, NUL or a lone
surrogate, or does not come back as its own type. What jsonb would change silently (-0.0) is normalised first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec

from fsm_core.errors import DefinitionError, InvalidPayload, PayloadTooLarge, UnknownType
from fsm_core.types import Failed

if TYPE_CHECKING:
    from fsm_core.machine import Machine
    from fsm_core.unions import Member

INT_DIGITS = 100


@dataclass(frozen=True)
class Limits:
    """What one payload may hold: bytes of JSON, levels of nesting, values in all."""

    size: int = 64 * 1024
    depth: int = 32
    items: int = 10_000


DEFAULT_LIMITS = Limits()


class _FailedForm(msgspec.Struct):
    """`Failed` as JSON."""

    action: msgspec.Raw
    error: str = ""
    attempts: int = 0


def encode(value: object, what: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """The JSON object of `value`, an instance of a dataclass, msgspec Struct, pydantic model or `Failed`.

    `what` names it in messages. Raises InvalidPayload with the path to the place, PayloadTooLarge.
    """
    text = dump(_builtins(value, what), what, limits)
    if text[0] != "{":
        raise InvalidPayload(
            f"{what}: {type(value).__name__} is no JSON object but a {'list' if text[0] == '[' else 'scalar'}"
        )
    if not isinstance(value, Failed):
        _decode_text(type(value), text, what)
    return text


def dump(tree: object, what: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """The JSON text of `tree` (dicts, lists and scalars), checked and normalised. Raises InvalidPayload, PayloadTooLarge."""
    text = msgspec.json.encode(_clean(tree, what, limits.depth, [limits.items])).decode()
    if len(text) > limits.size or (not text.isascii() and len(text.encode()) > limits.size):
        raise PayloadTooLarge(what, len(text.encode()), limits.size)
    return text


def decode(member: Member, text: str, what: str) -> Any:
    """The value of class `member` that `text` holds. Raises InvalidPayload."""
    if member.of is None:
        return _decode_text(member.cls, text, what)
    try:
        tree = msgspec.json.decode(
            text, type=_FailedForm
        )  # no limits: jsonb writes a payload longer than it was sent
    except msgspec.MsgspecError as error:
        raise InvalidPayload(f"{what} does not fit Failed: {_first_line(error)}") from error
    return Failed(_decode_text(member.of, bytes(tree.action), f"{what}.action"), tree.error, tree.attempts)


def decode_named(machine: Machine[Any, Any, Any], role: str, name: str, text: str) -> Any:
    """The state, event or action (`role`) called `name`. Raises UnknownType if there is none, InvalidPayload."""
    known: dict[str, Member] = getattr(machine, f"{role}s")
    if name not in known:
        raise UnknownType(machine.name, role, name, tuple(known))
    return decode(known[name], text, f"{role} {name}")


def read_input(machine: Machine[Any, Any, Any], role: str, name: str, text: str) -> Any:
    """As `decode_named`, for text from outside: also refuses duplicate and unknown keys, and all that `parse` refuses."""
    tree = parse(text, f"{role} {name}")
    known: dict[str, Member] = getattr(machine, f"{role}s")
    if name not in known or not known[name].from_outside:
        raise UnknownType(machine.name, role, name, tuple(n for n, m in known.items() if m.from_outside))
    unknown = set(tree) - set(field_names(known[name].cls))
    if unknown:
        raise InvalidPayload(f"{role} {name} has no field {', '.join(sorted(unknown))}")
    return decode(known[name], dump(tree, f"{role} {name}"), f"{role} {name}")


def parse(text: str | bytes, what: str, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """The JSON object in `text`, which nobody vouches for: strict JSON, no duplicate key, within the limits.

    Raises InvalidPayload, PayloadTooLarge; never RecursionError, whatever the nesting.
    """
    try:
        raw = text if isinstance(text, str) else text.decode()
        size = len(raw.encode())
    except UnicodeError as error:
        raise InvalidPayload(f"{what} is not UTF-8") from error
    if size > limits.size:
        raise PayloadTooLarge(what, size, limits.size)
    if raw.count("[") + raw.count("{") > limits.depth and _nesting(raw) > limits.depth:
        raise InvalidPayload(f"{what} is nested deeper than {limits.depth}")
    try:
        tree = json.loads(raw, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except InvalidPayload as error:
        raise InvalidPayload(f"{what}: {error.reason}") from None
    except ValueError as error:
        raise InvalidPayload(f"{what} is not JSON: {error}") from error
    if not isinstance(tree, dict):
        raise InvalidPayload(f"{what} must be a JSON object, not {type(tree).__name__}")
    cleaned: dict[str, Any] = _clean(tree, what, limits.depth, [limits.items])
    return cleaned


@lru_cache(maxsize=4096)
def field_names(cls: type) -> tuple[str, ...]:
    """The names of the fields that a payload of `cls` may have, in order."""
    if is_dataclass(cls):
        return tuple(f.name for f in fields(cls))
    if hasattr(cls, "model_fields"):
        return tuple(f.alias or name for name, f in cls.model_fields.items())
    return tuple(f.encode_name for f in msgspec.structs.fields(cls))


def prepare(machine: Machine[Any, Any, Any]) -> None:
    """Build every decoder of the machine. Raises DefinitionError that names a class that JSON cannot hold."""
    for member in (*machine.states.values(), *machine.events.values(), *machine.actions.values()):
        _decoder(member.of or member.cls)


@lru_cache(maxsize=4096)
def _decoder(cls: type) -> msgspec.json.Decoder[Any] | None:
    """None for a pydantic model, which decodes itself."""
    if hasattr(cls, "model_validate_json"):
        return None
    if not (is_dataclass(cls) or issubclass(cls, msgspec.Struct)):
        raise DefinitionError(f"{cls.__qualname__} is no dataclass, msgspec Struct or pydantic model")
    try:
        return msgspec.json.Decoder(cls, dec_hook=_decode_foreign)
    except (TypeError, NameError) as error:
        raise DefinitionError(f"{cls.__qualname__} has a field that JSON cannot hold: {error}") from error


def _decode_text(cls: type, text: str | bytes, what: str) -> Any:
    decoder = _decoder(cls)
    try:
        return cls.model_validate_json(text) if decoder is None else decoder.decode(text)  # type: ignore[attr-defined]
    except (
        Exception
    ) as error:  # the class's own code runs in it (`__post_init__`, validators): whatever it raises
        raise InvalidPayload(f"{what} does not fit {cls.__name__}: {_first_line(error)}") from error


def _decode_foreign(cls: type, value: object) -> object:
    if hasattr(cls, "model_validate"):
        return cls.model_validate(value)
    raise NotImplementedError(f"no JSON form is known for {cls.__qualname__}")


def _encode_foreign(value: object) -> object:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, round_trip=True, warnings="error")
    raise NotImplementedError(f"no JSON form is known for {type(value).__qualname__}")


def _builtins(value: object, what: str) -> object:
    if isinstance(value, Failed):
        return {"action": _builtins(value.action, what), "error": value.error, "attempts": value.attempts}
    _decoder(type(value))  # type: ignore[arg-type] # mypy takes type[object] for unhashable
    try:
        # deterministic: a set must have one text, or a dedup key would not know its own event again
        return msgspec.to_builtins(value, str_keys=True, enc_hook=_encode_foreign, order="deterministic")
    except (TypeError, ValueError, NotImplementedError, RecursionError, OverflowError) as error:
        raise InvalidPayload(f"{what} has no JSON form: {_first_line(error)}") from error


def _clean(value: Any, path: str, depth: int, left: list[int]) -> Any:  # noqa: C901 - one test for each type of JSON
    """`value` checked and normalised; `left` counts down the values that may still come."""
    kind = type(value)
    left[0] -= 1
    if kind is str:
        _clean_text(value, path)
        return value
    if value is None or kind is bool:
        return value
    if kind is int:
        if abs(value) >= 10**INT_DIGITS:
            raise InvalidPayload(f"an integer of more than {INT_DIGITS} digits", path)
        return value
    if kind is float:
        if not isfinite(value):
            raise InvalidPayload(f"{value} is no JSON number", path)
        return value + 0.0  # -0.0 becomes 0.0, as jsonb would make it
    if depth <= 0:
        raise InvalidPayload("nested too deep", path[:200])
    if left[0] < len(value):
        raise InvalidPayload("too many values", path[:200])
    if kind is dict:
        for key in value:
            _clean_text(key, path)
        return {k: _clean(v, f"{path}.{k}", depth - 1, left) for k, v in value.items()}
    if kind in (list, tuple):
        return [_clean(v, f"{path}[{i}]", depth - 1, left) for i, v in enumerate(value)]
    raise InvalidPayload(f"{kind.__name__} has no JSON form", path)


def _clean_text(value: str, path: str) -> None:
    if "\0" in value:
        raise InvalidPayload("NUL in a string", path)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidPayload("a lone surrogate in a string", path) from None


def _nesting(raw: str) -> int:
    """The deepest nesting of brackets outside strings, without building anything."""
    deepest = depth = 0
    in_string = escaped = False
    for char in raw:
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise InvalidPayload("a key stands there twice")
    return tree


def _no_constant(name: str) -> object:
    raise InvalidPayload(f"{name} is no JSON number")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
