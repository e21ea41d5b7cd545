"""How the command line names things: `NAME/KEY` for a machine, `<machine uuid>.<seq>.<idx>` for an action, `7d` for a span."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fsm_core.errors import Refused
from fsm_core.types import ActionId, key_text
from workers import settings

if TYPE_CHECKING:
    from datetime import timedelta

_MAX_SEQ = 2**31 - 1
_MAX_IDX = 2**15 - 1


class BadArgument(Refused):
    """An argument of the command line makes no sense; nothing was done."""


class Address(NamedTuple):
    """A machine by name and key."""

    name: str
    key: str

    def __str__(self) -> str:
        return f"{self.name}/{self.key}"


def machine_address(text: str) -> Address:
    """The machine that `text` (NAME/KEY, split at the first slash) names. Raises BadArgument, InvalidKey."""
    name, slash, key = text.partition("/")
    if not name or not slash or not key:
        raise BadArgument(f"{text!r} is no machine; it is addressed as NAME/KEY, for example door/front")
    return Address(name, key_text(key))


def action_id(text: str) -> ActionId:
    """The action that `text` names. Raises BadArgument."""
    try:
        found = ActionId.parse(text)
    except ValueError:
        found = None
    if found is None or str(found) != text.lower() or not _in_range(found):
        raise BadArgument(
            f"{text!r} is no action id; it is <machine uuid>.<seq>.<idx>, as `fsm actions` shows it"
        )
    return found


def span(text: str) -> timedelta:
    """The span of time that `text` says, such as 12h. Raises BadArgument."""
    try:
        return settings.span(text)
    except ValueError as error:
        raise BadArgument(str(error)) from error


def _in_range(found: ActionId) -> bool:
    return 0 <= found.seq <= _MAX_SEQ and 0 <= found.idx <= _MAX_IDX
