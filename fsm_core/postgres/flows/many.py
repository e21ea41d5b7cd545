"""`advance_many`: many events in a few statements. One machine's events are one unit; each unit stands for itself."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fsm_core.draft import Draft
from fsm_core.errors import MachineNotFound, Refused
from fsm_core.inputs import remembered
from fsm_core.postgres import params
from fsm_core.postgres.ask import Ask, Row
from fsm_core.postgres.flows.advance import Call, Conflict, answered, apply, decided, read
from fsm_core.postgres.flows.alone import whole
from fsm_core.postgres.statements import machines as sql
from fsm_core.types import MachineStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsm_core.records import Snapshot
    from fsm_core.unit import Seen


@dataclass
class Answer:
    """What became of one event. Neither: it is to be done alone."""

    call: Call
    snapshot: Snapshot[Any] | None = None
    refusal: Exception | None = None


def unanswered(calls: Sequence[Call]) -> list[Answer]:
    """None of them is done yet: each is to be done alone."""
    return [Answer(call) for call in calls]


def all_refused(calls: Sequence[Call], error: Exception) -> list[Answer]:
    """What befell their group is the answer of each: a copy, as each is raised in a thread or task of its own."""
    return [Answer(call, refusal=copy(error)) for call in calls]


@dataclass
class _Group:
    """One machine with its events, in the order given."""

    row: Row
    draft: Draft
    answers: list[Answer] = field(default_factory=list)

    @property
    def writes(self) -> bool:
        """Whether there is anything to write: an event, or one that is held."""
        return bool(self.draft.unit.events or self.draft.unit.held)

    @property
    def alone(self) -> bool:
        """Whether it takes more than a group's statement, or one answer could not tell what was held from what was applied."""
        unit = self.draft.unit
        return unit.alone or self.draft.offers or bool(unit.held and unit.events)


async def many(calls: Sequence[Call]) -> list[Answer]:
    """Decide and write in two statements, without a lock; what a group cannot do is left to be done alone, in its order.

    Raises StoreError; then any part may be committed, and each call knows that it was tried.
    """
    answers = unanswered(calls)
    groups = _decided(answers, await _read(calls))
    ready = [g for g in groups if not g.alone and g.writes]
    for group in ready:
        for answer in group.answers:
            answer.call.tried_at = group.draft.unit.seen.seq + 1
    written = await params.write_many([g.draft.unit for g in ready]) if ready else set()
    missed = [g for position, g in enumerate(ready) if position not in written]
    for group in (*missed, *(g for g in groups if g.alone)):
        for answer in group.answers:
            answer.call.tried_at, answer.snapshot, answer.refusal = None, None, None
    return answers


async def many_locked(calls: Sequence[Call]) -> list[Answer]:
    """The same in a transaction of our own, under their locks: nobody else can make them miss."""
    await Ask(sql.LOCK_KEYS, _addresses(calls), len)
    return await many(calls)


async def many_joined(calls: Sequence[Call]) -> list[Snapshot[Any]]:
    """The same in the caller's transaction: all or nothing. Locks are taken in the order of ids.

    Raises the first refusal; then nothing is written.
    """
    await Ask(sql.LOCK_KEYS, _addresses(calls), len)
    answers = unanswered(calls)
    groups = _decided(answers, await _read(calls))
    for answer in answers:
        if answer.refusal is not None:
            raise answer.refusal
    await (whole(_written(groups)) if any(g.alone for g in groups) else _written(groups))
    return [answer.snapshot for answer in answers if answer.snapshot is not None]


async def _written(groups: Sequence[_Group]) -> None:
    ready = [g for g in groups if not g.alone and g.writes]
    written = await params.write_many([g.draft.unit for g in ready]) if ready else set()
    if len(written) < len(ready):
        raise Conflict  # pragma: no cover - their rows are locked
    for group in groups:
        if group.alone:
            for answer in group.answers:
                answer.snapshot = await _one(answer.call, group.row)


async def _one(call: Call, row: Row) -> Snapshot[Any]:
    return await decided(call, await read(call, locked=False) or row, locked=True, own=False)


def _decided(answers: Sequence[Answer], rows: dict[params.Place, Row]) -> list[_Group]:
    """Every event decided on the rows as they were read; what is refused leaves its machine's unit as it was."""
    groups: dict[str, _Group] = {}
    used: set[params.Place] = set()
    for answer in answers:
        call, place = answer.call, _place(answer.call)
        row = rows.get(place)
        if row is None or row[4] == MachineStatus.UNBORN:
            answer.refusal = MachineNotFound(call.machine.name, call.key)
            continue
        try:
            if call.key not in groups:
                groups[call.key] = _Group(row, _draft(call, params.seen(row)))
            group = groups[call.key]
            group.answers.append(answer)
            if place not in used:
                answer.snapshot = _applied(call, group.draft, row)
            # else the same dedup key again: its answer shows once this is written
            if call.dedup_key is not None:
                used.add(place)
        except Refused as refusal:
            answer.refusal = refusal
    return list(groups.values())


def _applied(call: Call, draft: Draft, row: Row) -> Snapshot[Any]:
    dedup = remembered(call.machine, call.event, call.dedup_key, call.limits)
    if (duplicate := answered(call, draft, row, dedup)) is not None:
        return duplicate
    apply(call, draft, dedup)
    snapshot = draft.snapshot
    draft.follow()
    return snapshot


async def _read(calls: Sequence[Call]) -> dict[params.Place, Row]:
    first, places = calls[0], [*dict.fromkeys(map(_place, calls))]
    rows = await params.read_keys(first.machine.name, places, first.limits, capped=first.capped)
    return {places[params.place(row)]: row for row in rows}


def _place(call: Call) -> params.Place:
    return call.key, call.dedup_key


def _draft(call: Call, seen: Seen) -> Draft:
    return Draft(call.registry.reader(seen.machine, seen.version), seen, call.limits)


def _addresses(calls: Sequence[Call]) -> dict[str, object]:
    return {"fsm": calls[0].machine.name, "keys": sorted({call.key for call in calls})}
