"""JSON that a database can keep: checked and normalised before it sees it, and read strictly from outside.

Refused: too big, too deep, too many values, NaN, an infinity, NUL, a lone surrogate, a duplicate key, and numbers made to
collide. What jsonb would change silently (-0.0) is normalised.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from fsm_core.errors import ConfigurationError, InvalidPayload, PayloadTooLarge, Sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

INT_DIGITS = 100
_TOO_BIG = 10**INT_DIGITS

_COLLISIONS = 500
"""Numbers of one hash that a payload may hold: a set or dict of them takes time by the square."""

_LONG = 19
_LONG_NUMBER = re.compile(rf"[0-9A-Fa-f+._-]{{{_LONG},}}")
"""What may be a number of 61 bits or more, or a UUID: smaller ones have each a hash of their own."""

_UUID_LENGTHS = (32, 36)

SHOWN = 200
"""Characters of a path, of names or of a reason that a message shows."""

RESERVED = "$sealed"
SEALED = f'{{"{RESERVED}": "'
"""How a payload begins that a store has encrypted (`<key id>.<base64>"}` follows); no user's may have a field of that name."""

REFUSED = "!"
"""What stands for the dot where the key is there and does not open it."""


@dataclass(frozen=True)
class Limits:
    """What callers may ask of a store. size, depth, items: what one payload may hold: bytes of JSON, levels of nesting, values in all.

    events, per: how many events one machine may have in any span of `per`. open: at how many open actions (timers and messages, too) it
    takes no more. None: any number. A call beyond is refused (`Overloaded`); results, timers and messages of machines are not.

    Raises ConfigurationError: a cap that lets nothing through.
    """

    size: int = 64 * 1024
    depth: int = 32
    items: int = 10_000
    events: int | None = None
    per: timedelta = timedelta(seconds=1)
    open: int | None = None

    def __post_init__(self) -> None:
        caps = [cap for cap in (self.events, self.open) if cap is not None]
        if min(caps, default=1) < 1 or self.per <= timedelta(0):
            raise ConfigurationError(
                "a cap is 1 event or open action at least, and its span is longer than 0"
            )

    @property
    def capped(self) -> bool:
        """Whether one machine's load counts."""
        return self.events is not None or self.open is not None


DEFAULT_LIMITS = Limits()


def dump(tree: object, what: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """The JSON text of `tree` (dicts, lists and scalars), checked and normalised. Raises InvalidPayload, PayloadTooLarge."""
    encoded = msgspec.json.encode(_checked(tree, what, limits))
    if len(encoded) > limits.size:
        raise PayloadTooLarge(what, len(encoded), limits.size)
    return encoded.decode()


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
        raise InvalidPayload(found.reason, path[:SHOWN]) from None


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


def refuse_collisions(text: str, what: str) -> None:
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


def why_sealed(text: str) -> str | None:
    """Why `text`, as a store read it, cannot be understood: it is encrypted still. None: it is not."""
    if not text.startswith(SEALED):
        return None
    name, mark, _ = re.split(rf"([.{REFUSED}]|$)", text[len(SEALED) :], maxsplit=1)
    if mark == REFUSED:
        return f'key "{name}" does not open it: it was changed, or is another machine\'s'
    return f'no key "{name:.{SHOWN}}" here'


def refuse_sealed(text: str, what: str) -> None:
    """Raises Sealed: `text`, as a store read it, is encrypted still."""
    reason = why_sealed(text)
    if reason is not None:
        raise Sealed(reason, what)


def shown(text: str) -> Any:
    """The tree of a payload for whoever looks at it; of one that is encrypted still, why."""
    reason = why_sealed(text)
    return msgspec.json.decode(text) if reason is None else {RESERVED: reason}
