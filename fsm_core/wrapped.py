"""The engine's own events around a user's value, as JSON: `Failed` around an action, `ChildEnded` around a state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fsm_core.types import ChildEnded, Failed, Spawn

if TYPE_CHECKING:
    from collections.abc import Callable


class _FailedForm(msgspec.Struct):
    action: msgspec.Raw
    error: str = ""
    attempts: int = 0


class _ChildEndedForm(msgspec.Struct):
    machine: str
    key: str
    state: msgspec.Raw


class _SpawnForm(msgspec.Struct):
    machine: str
    key: str


def wrapping(event: Failed[object] | ChildEnded[object], inner: Callable[[object], object]) -> object:
    """The event as builtins; `inner` gives those of what it holds."""
    if isinstance(event, ChildEnded):
        return {"machine": event.machine, "key": event.key, "state": inner(event.state)}
    action = event.action
    held = {"machine": action.machine, "key": action.key} if isinstance(action, Spawn) else inner(action)
    return {"action": held, "error": event.error, "attempts": event.attempts}


def unwrapping(
    cls: type, of: type, text: str | bytes, inner: Callable[[bytes], Any]
) -> Failed[Any] | ChildEnded[Any]:
    """The event of class `cls` that `text` holds, around a value of class `of`; `inner` reads that one.

    Raises msgspec.MsgspecError, and what `inner` raises.
    """
    if cls is ChildEnded:
        ended = msgspec.json.decode(text, type=_ChildEndedForm)
        return ChildEnded(ended.machine, ended.key, inner(bytes(ended.state)))
    failed = msgspec.json.decode(text, type=_FailedForm)
    if of is Spawn:
        spawn = msgspec.json.decode(bytes(failed.action), type=_SpawnForm)
        return Failed(Spawn(spawn.machine, spawn.key), failed.error, failed.attempts)
    return Failed(inner(bytes(failed.action)), failed.error, failed.attempts)
