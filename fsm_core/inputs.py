"""What every store refuses before it looks at anything, and what it remembers of a dedup key."""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fsm_core.codec import encode
from fsm_core.errors import ConfigurationError, InvalidKey, TransitionError, UnknownType
from fsm_core.machine import Machine
from fsm_core.payload import dump
from fsm_core.types import ENGINE_EVENTS, MAX_KEY, Internal, Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsm_core.payload import Limits

MAX_ROWS = 2**31 - 1

MAX_TTL = timedelta(days=366 * 10)

UNBORN_TTL = timedelta(days=7)
"""How long a signal waits for a machine that does not exist, where the caller does not say."""


class Dedup(NamedTuple):
    """What is remembered of a dedup key. `digest` is None where only the seq becomes known; `seq` while it is held."""

    key: str
    digest: bytes | None
    seq: int | None


def check(machine: Machine[Any, Any, Any], event: object, dedup_key: str | None) -> None:
    """Raises UnknownType (no event of the machine, or one that only the engine makes), InvalidKey (no dedup key)."""
    if isinstance(event, (*ENGINE_EVENTS, Internal)):
        known = tuple(name for name, member in machine.events.items() if member.from_outside)
        raise UnknownType(machine.name, "event that comes from outside", type(event).__name__, known)
    machine.event_name(event)
    checked_names(dedup_key=dedup_key)


def name_of(machine: Machine[Any, Any, Any] | str) -> str:
    """The name of a machine, or as it is given. Raises InvalidKey: no machine could be called that."""
    if isinstance(machine, Machine):
        return machine.name
    return _name(machine, "machine name")


def names_of(machines: Sequence[Machine[Any, Any, Any] | str] | None) -> list[str] | None:
    """The same for many; None: all there are."""
    return None if machines is None else [name_of(machine) for machine in machines]


def checked_names(**given: str | None) -> None:
    """Raises InvalidKey: no row could have such a name. None: it was not given."""
    for what, name in given.items():
        if name is not None:
            _name(name, what.replace("_", " "))


def checked_limit(limit: int) -> None:
    """Raises ConfigurationError: nobody can be given so many rows."""
    if not 0 <= limit <= MAX_ROWS:
        raise ConfigurationError(f"limit= is 0 to {MAX_ROWS:,} rows, not {limit}")


def checked_note(note: str) -> None:
    """Raises InvalidPayload, PayloadTooLarge: a note that no row could keep."""
    dump(note, "note")


def checked_ttl(ttl: timedelta | None) -> None:
    """Raises ConfigurationError: a signal cannot wait for nothing, nor for longer than ten years."""
    if ttl is not None and not timedelta(0) < ttl <= MAX_TTL:
        raise ConfigurationError(f"ttl= is more than nothing and at most {MAX_TTL.days} days, not {ttl}")


def checked_place(partition_key: str | None, priority: int | None, at: datetime | None) -> None:
    """Raises ConfigurationError: what no row could hold, or a time without a zone."""
    try:
        Route(partition_key=partition_key, priority=Route().priority if priority is None else priority)
    except TransitionError as error:
        raise ConfigurationError(str(error).removeprefix("Route: ")) from error
    if at is not None and at.tzinfo is None:
        raise ConfigurationError(f"at= is an aware datetime, not {at}")


def remembered(
    machine: Machine[Any, Any, Any], event: object, dedup_key: str | None, limits: Limits
) -> Dedup | None:
    """What to remember of `dedup_key`, once it is used for `event`; None without one. Raises InvalidPayload."""
    if dedup_key is None:
        return None
    name = machine.event_name(event)
    return Dedup(dedup_key, digest(name, encode(event, f"event {name}", limits)), None)


def digest(name: str, payload: str) -> bytes:
    """What tells two events under one dedup key apart: SHA-256 over the name and the payload with sorted keys."""
    canonical = msgspec.json.encode(msgspec.json.decode(payload), order="sorted")
    return sha256(name.encode() + b"\0" + canonical).digest()


def _name(given: object, what: str) -> str:
    if not isinstance(given, str) or not 0 < len(given) <= MAX_KEY or not given.isprintable():
        raise InvalidKey(given, f"1 to {MAX_KEY} printable characters", what)
    return given
