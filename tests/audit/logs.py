"""Logs of short lives, the ways to falsify them, and what `fsck` says of them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from examples.door import door
from fsm_core.audit import Code, Log, fsck
from fsm_core.memory import MemoryStore
from fsm_core.registry import AnyMachine, Registry
from tests.audit.fetching import fetching
from tests.store.machines import desk

HOUR = timedelta(hours=1)


def lived(*events: object, machine: AnyMachine = fetching, key: str = "a") -> Log:
    """The record of a machine after those events, one minute apart, from outside."""
    store = MemoryStore()
    store.start(machine, key)
    for event in events:
        store.clock.advance(60)
        store.advance(machine, key, event)
    return store.log(machine, key)


def found(log: Log, *machines: AnyMachine) -> list[tuple[Code, int | None]]:
    """What is found in a record, on this code."""
    return [
        (each.code, each.seq) for each in fsck(log, Registry(machines or (fetching, door, desk))).findings
    ]


def said(log: Log, *machines: AnyMachine) -> str:
    """What the only finding says."""
    (finding,) = fsck(log, Registry(machines or (fetching,))).findings
    return finding.message


def state(log: Log, **columns: Any) -> Log:
    """The record with other columns in the machine's row."""
    return replace(log, seen=log.seen._replace(**columns))


def entry(log: Log, seq: int, **columns: Any) -> Log:
    """The record with other columns in one event."""
    changed = [each._replace(**columns) if each.seq == seq else each for each in log.entries]
    return replace(log, entries=tuple(changed))


def row(log: Log, of: str, /, **columns: Any) -> Log:
    """The record with other columns in the rows of that action."""
    changed = [each._replace(**columns) if each.name == of else each for each in log.rows]
    return replace(log, rows=tuple(changed))


def without(log: Log, name: str) -> Log:
    """The record without the rows of that action."""
    return replace(log, rows=tuple(each for each in log.rows if each.name != name))
