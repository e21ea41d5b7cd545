"""Decisions as what verbs print: actions as values, and how two states differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import datetime, timedelta
from uuid import UUID

from fsm_core.audit import FieldChange
from fsm_core.codec import encode
from fsm_core.machine import Machine
from fsm_core.types import BUILT_IN
from workers.cli import output
from workers.cli.documents import Document, iso

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def action(value: object) -> Document:
    """An action that is no row yet: its name and payload."""
    name = type(value).__name__
    if isinstance(value, BUILT_IN):
        return {"name": name, "payload": {f.name: _shown(getattr(value, f.name)) for f in fields(value)}}
    return {"name": name, "payload": json.loads(encode(value, "action"))}


def change(found: FieldChange) -> Document:
    """A field that differs. An added one has no `before`, a removed one no `after`."""
    sides = {
        side: getattr(found, side)
        for side, without in (("before", "added"), ("after", "removed"))
        if found.kind != without
    }
    return {"path": found.path, "kind": found.kind, **sides}


def action_lines(values: Iterable[object]) -> Iterator[str]:
    """Actions for a person, one in a line."""
    for value in values:
        made = action(value)
        yield f"  -> {output.named(str(made['name']), made['payload'])}"


def change_lines(found: Iterable[FieldChange], words: tuple[str, str] = ("", " -> ")) -> Iterator[str]:
    """Differing fields for a person, one in a line; `words` go before the two sides of a changed one."""
    for each in found:
        before, after = (
            json.dumps(each.before, ensure_ascii=False),
            json.dumps(each.after, ensure_ascii=False),
        )
        sides = {"added": after, "removed": before, "changed": f"{words[0]}{before}{words[1]}{after}"}
        yield f"  {_SIGNS[each.kind]} {each.path or 'state'}: {sides[each.kind]}"


def _shown(value: object) -> object:
    """A field of a built-in action as JSON: a time, a key, a machine's name, or a state or event with its payload."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Machine):
        return value.name
    return {"name": type(value).__name__, "payload": json.loads(encode(value, "event"))}
