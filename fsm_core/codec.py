"""The typed JSON codec: values of a machine's classes to JSON objects and back, and nothing that JSON cannot hold.

A value is refused here, before any database sees it, if it is too big, too deep, holds NaN, an infinity, NUL or a lone
surrogate, or does not come back as its own type. What jsonb would change silently (-0.0) is normalised first.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from fsm_core.errors import DefinitionError, InvalidPayload, PayloadTooLarge, UnknownType
from fsm_core.types import WRAPPERS, Failed, Spawn
from fsm_core.wrapped import unwrapping, wrapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fsm_core.edges import Upcaster
    from fsm_core.machine import Machine
    from fsm_core.unions import Member

INT_DIGITS = 100
_FAILED = len("Failed[")
_TOO_BIG = 10**INT_DIGITS

_SHOWN = 200
"""Characters of a path, of names or of a reason that a message shows."""

_FEW = 20
"""Errors that are worth being written out, for their first line."""

_COLLISIONS = 500
"""Numbers of one hash that a payload may hold: a set or dict of them takes time by the square."""

_LONG = 19
_LONG_NUMBER = re.compile(rf"[0-9A-Fa-f+._-]{{{_LONG},}}")
"""What may be a number of 61 bits or more, or a UUID: smaller ones have each a hash of their own."""

_UUID_LENGTHS = (32, 36)


@dataclass(frozen=True)
class Limits:
    """What one payload may hold: bytes of JSON, levels of nesting, values in all."""

    size: int = 64 * 1024
    depth: int = 32
    items: int = 10_000


DEFAULT_LIMITS = Limits()


def encode(value: object, what: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """The JSON object of `value`, an instance of a dataclass, msgspec Struct or pydantic model, or one of the engine's events.

    `what` names it in messages. Raises InvalidPayload with the path to the place, PayloadTooLarge.
    """
    text = dump(_builtins(value, what), what, limits)
    if text[0] != "{":
        raise InvalidPayload(
            f"{what}: {type(value).__name__} is no JSON object but a {'list' if text[0] == '[' else 'scalar'}"
        )
    if not isinstance(value, WRAPPERS):
        _refuse_collisions(text, what)
        _decode_text(type(value), text, what)
    return text


def dump(tree: object, what: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """The JSON text of `tree` (dicts, lists and scalars), checked and normalised. Raises InvalidPayload, PayloadTooLarge."""
    encoded = msgspec.json.encode(_checked(tree, what, limits))
    if len(encoded) > limits.size:
        raise PayloadTooLarge(what, len(encoded), limits.size)
    return encoded.decode()


def decode(member: Member, text: str, what: str) -> Any:
    """The value of class `member` that `text` holds. Raises InvalidPayload."""
    if member.of is None:
        return _decode_text(member.cls, text, what)
    return _unwrapped(member.cls, member.of, text, what)


def decode_named(
    machine: Machine[Any, Any, Any], role: str, name: str, text: str, version: int | None = None
) -> Any:
    """The state, event or action (`role`) called `name`, as `version` of the machine wrote it (None: the present one).

    Raises UnknownType if there is none, InvalidPayload: it does not fit, or its upcaster raised.
    """
    what = f"{role} {name}"
    if version is not None and version != machine.version:
        if (older := machine.upcaster(version, role, name)) is not None:
            return _upcast(older, text, what)
        if role == "event" and (older := machine.upcaster(version, "action", name[_FAILED:-1])) is not None:
            return _unwrapped(Failed, older.old, text, what, older)
    known: dict[str, Member] = getattr(machine, f"{role}s")
    if name not in known:
        raise UnknownType(machine.name, role, name, tuple(known))
    return decode(known[name], text, what)


def read_input(machine: Machine[Any, Any, Any], role: str, name: str, text: str | bytes) -> Any:
    """As `decode_named`, for text from outside: also refuses duplicate and unknown keys, and all that `parse` refuses."""
    tree = parse(text, f"{role} {name}")
    known: dict[str, Member] = getattr(machine, f"{role}s")
    if name not in known or not known[name].from_outside:
        raise UnknownType(machine.name, role, name, tuple(n for n, m in known.items() if m.from_outside))
    unknown = set(tree) - set(field_names(known[name].cls))
    if unknown:
        raise InvalidPayload(f"{role} {name} has no field {', '.join(sorted(unknown)):.{_SHOWN}}")
    written = dump(tree, f"{role} {name}")  # without the escapes that the text may have had
    _refuse_collisions(written, f"{role} {name}")
    return decode(known[name], written, f"{role} {name}")


def parse(text: str | bytes, what: str, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """The JSON object in `text`, which nobody vouches for: strict JSON, no duplicate key, within the limits.

    Raises InvalidPayload, PayloadTooLarge; never RecursionError, whatever the nesting.
    """
    try:
        size = len(text if isinstance(text, bytes) or text.isascii() else text.encode())
        if size > limits.size:
            raise PayloadTooLarge(what, size, limits.size)
        raw = text if isinstance(text, str) else text.decode()
    except UnicodeError as error:
        raise InvalidPayload(f"{what} is not UTF-8") from error
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
    cleaned: dict[str, Any] = _checked(tree, what, limits)
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
        if member.of is not Spawn:
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


def _unwrapped(cls: type, of: type, text: str, what: str, older: Upcaster | None = None) -> Any:
    def inner(held: bytes) -> Any:
        return _decode_text(of, held, what) if older is None else _upcast(older, held, what)

    try:
        return unwrapping(cls, of, text, inner)  # no limits: jsonb writes a payload longer than it was sent
    except msgspec.MsgspecError as error:
        raise InvalidPayload(f"{what} does not fit {cls.__name__}: {_first_line(error)}") from error


def _upcast(older: Upcaster, text: str | bytes, what: str) -> Any:
    value = _decode_text(older.old, text, what)
    try:
        return older.function(value)
    except Exception as error:
        raise InvalidPayload(
            f"{what} could not be upcast by {older.signature.place}: {error!r:.200}"
        ) from error


def _decode_foreign(cls: type, value: object) -> object:
    if hasattr(cls, "model_validate"):
        return cls.model_validate(value)
    raise NotImplementedError(f"no JSON form is known for {cls.__qualname__}")


def _encode_foreign(value: object) -> object:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, round_trip=True, warnings="error")
    raise NotImplementedError(f"no JSON form is known for {type(value).__qualname__}")


def _builtins(value: object, what: str) -> object:
    if isinstance(value, WRAPPERS):
        return wrapping(value, lambda held: _builtins(held, what))
    _decoder(type(value))  # type: ignore[arg-type] # mypy takes type[object] for unhashable
    try:
        # deterministic: a set must have one text, or a dedup key would not know its own event again
        return msgspec.to_builtins(value, str_keys=True, enc_hook=_encode_foreign, order="deterministic")
    except (TypeError, ValueError, NotImplementedError, RecursionError, OverflowError) as error:
        raise InvalidPayload(f"{what} has no JSON form: {_first_line(error)}") from error


class _NoJson(Exception):
    """Why a value has no JSON form. `path` grows on the way up, from the inside out: what is sound pays for none."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []


def _checked(tree: object, what: str, limits: Limits) -> Any:
    """`tree` checked and normalised. Raises InvalidPayload with the path to the place."""
    try:
        leaf = _LEAVES.get(type(tree))
        return leaf(tree) if leaf is not None else _clean(tree, limits.depth, [limits.items - 1])
    except _NoJson as found:
        path = "".join((what, *reversed(found.path)))
        raise InvalidPayload(found.reason, path[:_SHOWN]) from None


def _clean(value: Any, depth: int, left: list[int]) -> Any:
    """A container checked and normalised; `left` counts down the values that may still come. Raises _NoJson."""
    kind = type(value)
    if kind is not dict and kind is not list and kind is not tuple:
        raise _NoJson(f"{kind.__name__} has no JSON form")
    if depth <= 0:
        raise _NoJson("nested too deep")
    left[0] -= len(value)
    if left[0] < 0:
        raise _NoJson("too many values")
    return _clean_dict(value, depth - 1, left) if kind is dict else _clean_list(value, depth - 1, left)


def _clean_dict(value: dict[str, Any], depth: int, left: list[int]) -> dict[str, Any]:
    _text("".join(value))  # all keys at once: none may hold what one may not
    cleaned = {}
    key = ""
    try:
        for key, item in value.items():
            leaf = _LEAVES.get(type(item))
            cleaned[key] = leaf(item) if leaf is not None else _clean(item, depth, left)
    except _NoJson as found:
        found.path.append(f".{key}")
        raise
    return cleaned


def _clean_list(value: Iterable[Any], depth: int, left: list[int]) -> list[Any]:
    cleaned: list[Any] = []
    try:
        for item in value:
            leaf = _LEAVES.get(type(item))
            cleaned.append(leaf(item) if leaf is not None else _clean(item, depth, left))
    except _NoJson as found:
        found.path.append(f"[{len(cleaned)}]")
        raise
    return cleaned


def _text(value: str) -> str:
    if "\0" in value:
        raise _NoJson("NUL in a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _NoJson("a lone surrogate in a string") from None
    return value


def _integer(value: int) -> int:
    if not -_TOO_BIG < value < _TOO_BIG:
        raise _NoJson(f"an integer of more than {INT_DIGITS} digits")
    return value


def _float(value: float) -> float:
    if not isfinite(value):
        raise _NoJson(f"{value} is no JSON number")
    return value + 0.0  # -0.0 becomes 0.0, as jsonb would make it


def _as_it_is(value: object) -> object:
    return value


_LEAVES: dict[type, Callable[[Any], object]] = {
    str: _text,
    int: _integer,
    float: _float,
    bool: _as_it_is,
    type(None): _as_it_is,
}
"""What checks a value that holds no others: one look-up for each, where a chain of tests would cost several."""


def _refuse_collisions(text: str, what: str) -> None:
    """Raises InvalidPayload: a field that is a set, or a dict by number, would take long to build from `text`.

    Python's hash of a number is the number modulo 2**61 - 1, with no secret in it: whoever writes the payload can
    choose thousands of one hash. (Text is hashed with a secret.)
    """
    if len(text) < _COLLISIONS * _LONG:
        return
    numbers = set(_LONG_NUMBER.findall(text))
    if len(numbers) > _COLLISIONS:
        most = max(Counter(hashed for number in numbers for hashed in _hashes(number)).values(), default=0)
        if most > _COLLISIONS:
            raise InvalidPayload(f"{what} holds {most} numbers of one hash")


def _hashes(text: str) -> Iterator[int]:
    """The hashes that a number or UUID written as `text` would have."""
    for kind in (Decimal, UUID) if len(text) in _UUID_LENGTHS else (Decimal,):
        try:
            yield hash(kind(text))
        except (ValueError, ArithmeticError, TypeError):  # of no such form; a signalling NaN has no hash
            continue


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
    errors = getattr(error, "error_count", None)  # pydantic's, which would write out all of its thousands
    if callable(errors) and errors() > _FEW:
        return f"{errors()} validation errors"
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
