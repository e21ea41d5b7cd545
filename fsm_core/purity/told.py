"""What a machine's function is given, and what it answers, as JSON: by this two processes compare."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fsm_core.codec import decode_named, encode, field_names
from fsm_core.context import Context
from fsm_core.edges import event_key
from fsm_core.errors import DefinitionError, Rejected
from fsm_core.machine import Machine
from fsm_core.types import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsm_core.registry import AnyMachine

Given = list[list[str]]
"""A function's arguments without its Context: the role, the name and the payload of each."""

ROLES = {
    "edges": ("state", "event"),
    "entries": ("state",),
    "timeouts": ("state",),
    "routes": ("action",),
    "restores": ("state",),
}
"""What the functions of a machine's tables are given, where rows keep it too; a Context may come after it."""


def given(machine: AnyMachine, table: str, args: Sequence[object]) -> Given:
    """The arguments as text; none for a table whose functions are given something else. Raises UnknownType, InvalidPayload."""
    name = {"state": machine.state_name, "event": machine.event_name, "action": machine.action_name}
    roles = ROLES.get(table, ())
    return [[role, name[role](value), encode(value, role)] for role, value in zip(roles, args, strict=False)]


def back(machine: AnyMachine, arguments: Given) -> list[Any]:
    """The arguments that the text stands for. Raises UnknownType, InvalidPayload."""
    return [decode_named(machine, role, name, text) for role, name, text in arguments]


def circumstances(args: Sequence[object]) -> list[Any] | None:
    """The Context among the arguments, if there is one, with how far its generator has been drawn from."""
    ctx = args[-1]
    if not isinstance(ctx, Context):
        return None
    drawn = ctx.random.getstate() if "_random" in vars(ctx) else None
    return [ctx.now.isoformat(), str(ctx.id), ctx.key, ctx.seq, drawn]


def context(known: list[Any]) -> Context:
    """The Context that `circumstances` has told of."""
    now, machine_id, name, seq, drawn = known
    ctx = Context(datetime.fromisoformat(now), UUID(machine_id), name, seq)
    if drawn is not None:
        version, internal, following = drawn
        ctx.random.setstate((version, tuple(internal), following))
    return ctx


def key(args: Sequence[object]) -> object:
    """Under what the function that takes these arguments stands in its table."""
    is_edge = len(args) > 1 and not isinstance(args[1], Context)
    return (type(args[0]), event_key(args[1])) if is_edge else type(args[0])


def told(value: object) -> object:
    """An answer as a JSON tree. Raises InvalidPayload: it holds what no row could."""
    cls: type = type(value)
    if isinstance(value, Machine):
        return [value.name, value.version]
    if isinstance(value, BUILT_IN):
        return [cls.__name__, *(told(getattr(value, field.name)) for field in fields(value))]
    if isinstance(value, list | tuple):
        return [told(part) for part in value]
    if isinstance(value, datetime):
        return value.isoformat()
    try:
        field_names(cls)
    except (DefinitionError, TypeError):
        return repr(value)  # a timedelta, a number, a name
    return [cls.__name__, encode(value, cls.__name__)]


def raised(error: Exception) -> object:
    """An error as a JSON tree. The reason of a refusal counts, as callers and the log see it; the text of a bug does not."""
    return [type(error).__name__, error.reason if isinstance(error, Rejected) else None]
