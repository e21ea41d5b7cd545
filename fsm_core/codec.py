"""The typed JSON codec: values of a machine's classes to JSON objects and back, and nothing that JSON cannot hold.

A value is refused here, before any database sees it, if it is too big, too deep, holds NaN, an infinity, NUL or a lone
surrogate, or does not come back as its own type. What jsonb would change silently (-0.0) is normalised first.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_origin

import msgspec

from fsm_core.errors import DefinitionError, InvalidPayload, UnknownType
from fsm_core.payload import (
    DEFAULT_LIMITS,
    RESERVED,
    SHOWN,
    Limits,
    dump,
    parse,
    refuse_collisions,
    refuse_sealed,
)
from fsm_core.types import WRAPPERS, Failed, Spawn
from fsm_core.whole import filler
from fsm_core.wrapped import unwrapping, wrapping

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsm_core.edges import Upcaster
    from fsm_core.machine import Machine
    from fsm_core.unions import Member

_FAILED = len("Failed[")

_FEW = 20
"""Errors that are worth being written out, for their first line."""


def encode(value: object, what: str, limits: Limits = DEFAULT_LIMITS, *, form: object = None) -> str:
    """The JSON object of `value`, an instance of a dataclass, msgspec Struct or pydantic model, or one of the engine's events.

    `what` names it in messages; `form` is its class as it was declared, where that is generic. Raises InvalidPayload with the path to the place, PayloadTooLarge.
    """
    text = dump(_builtins(value, what), what, limits)
    if text[0] != "{":
        raise InvalidPayload(
            f"{what}: {type(value).__name__} is no JSON object but a {'list' if text[0] == '[' else 'scalar'}"
        )
    if RESERVED in text and RESERVED in msgspec.json.decode(text):
        raise InvalidPayload(
            f"{what}: a field is called {RESERVED}, which is what a store calls an encrypted payload"
        )
    if not isinstance(value, WRAPPERS):
        refuse_collisions(text, what)
        _decode_text(form or type(value), text, what)
    return text


def decode(member: Member, text: str, what: str) -> Any:
    """The value of class `member` that `text` holds. Raises InvalidPayload."""
    if member.of is None:
        return _decode_text(member.form or member.cls, text, what)
    return _unwrapped(member.cls, member.of, text, what)


def decode_named(
    machine: Machine[Any, Any, Any], role: str, name: str, text: str, version: int | None = None
) -> Any:
    """The state, event or action (`role`) called `name`, as `version` of the machine wrote it (None: the present one).

    Raises UnknownType if there is none, InvalidPayload: it does not fit, or its upcaster raised; Sealed.
    """
    what = f"{role} {name}"
    refuse_sealed(text, what)
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
    allowed = tuple(n for n, member in known.items() if role != "event" or member.from_outside)
    if name not in allowed:
        raise UnknownType(machine.name, role, name, allowed)
    unknown = set(tree) - set(field_names(known[name].cls))
    if unknown:
        raise InvalidPayload(f"{role} {name} has no field {', '.join(sorted(unknown)):.{SHOWN}}")
    written = dump(tree, f"{role} {name}")  # without the escapes that the text may have had
    refuse_collisions(written, f"{role} {name}")
    return decode(known[name], written, f"{role} {name}")


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
            _decoder(member.of or member.form or member.cls)


@lru_cache(maxsize=4096)
def _decoder(form: Any) -> Callable[[str | bytes], Any]:
    """What reads JSON as a class, or as a generic one with its arguments. Raises DefinitionError: JSON cannot hold it."""
    cls = get_origin(form) or form
    if hasattr(cls, "model_validate_json"):
        return form.model_validate_json  # type: ignore[no-any-return]
    if not (is_dataclass(cls) or issubclass(cls, msgspec.Struct)):
        raise DefinitionError(f"{cls.__qualname__} is no dataclass, msgspec Struct or pydantic model")
    try:
        decode = msgspec.json.Decoder(form, dec_hook=_decode_foreign).decode
    except (TypeError, NameError) as error:
        raise DefinitionError(f"{cls.__qualname__} has a field that JSON cannot hold: {error}") from error
    fill = filler(form)
    if fill is None:
        return decode

    def whole(text: str | bytes) -> Any:
        value = decode(text)
        fill(value)
        return value

    return whole


def _decode_text(form: Any, text: str | bytes, what: str) -> Any:
    try:
        return _decoder(form)(text)
    except DefinitionError:
        raise
    except (
        Exception
    ) as error:  # the class's own code runs in it (`__post_init__`, validators): whatever it raises
        name = getattr(form, "__name__", form)
        raise InvalidPayload(f"{what} does not fit {name}: {_first_line(error)}") from error


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


def _first_line(error: BaseException) -> str:
    errors = getattr(error, "error_count", None)  # pydantic's, which would write out all of its thousands
    if callable(errors) and errors() > _FEW:
        return f"{errors()} validation errors"
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
