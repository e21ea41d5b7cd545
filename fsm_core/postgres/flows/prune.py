"""Retention: each flow is one slice, in a short transaction of its own. Whatever breaks off between two leaves whole machines behind."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from fsm_core.delivery.retention import Pruned, Retention
from fsm_core.postgres.ask import Ask, Row
from fsm_core.postgres.statements import prune as sql
from fsm_core.postgres.statements.audit import BY_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from datetime import timedelta
    from typing import Any, TypeAlias

    Slice: TypeAlias = Callable[[], Coroutine[Ask[Any], Any, Pruned]]

SLICE_MACHINES = 500
SLICE_EVENTS = 5000
"""How much one slice takes: so many machines at most, and no other one after so many events."""


async def details(age: timedelta) -> Pruned:
    """The details of machines that ended longer ago than `age`."""
    await Ask(BY_KEY, {}, len)
    parameters = {"age": age, "limit": SLICE_MACHINES, "events": SLICE_EVENTS}
    rows: list[Row] = await Ask(sql.LOCK_ENDED, parameters, list)
    if not rows:
        return Pruned()
    ids, bases = [row[0] for row in rows], [row[1] for row in rows]
    cut = await _cut(ids, bases, age, ended=True)
    held, machines = await Ask(sql.MARK, {"ids": ids}, lambda rows: rows[0])
    return cut._replace(machines=machines, held=held)


async def whole(age: timedelta) -> Pruned:
    """Everything of machines that ended longer ago than `age`, and whose details went before."""
    await Ask(BY_KEY, {}, len)
    locked = await Ask(sql.LOCK_PRUNED, {"age": age, "limit": SLICE_MACHINES}, _ids)
    ids = await Ask(sql.AT_REST, {"ids": locked}, _ids) if locked else []
    if not ids:
        return Pruned()
    found = await Ask(sql.FORGET, {"ids": ids}, lambda rows: rows[0])
    return Pruned(events=found[0], actions=found[1], attempts=found[2], forgotten=found[3])


async def expired() -> Pruned:
    """Held events that nobody took in time, and the machines that were not born in that time."""
    ids = await Ask(sql.LOCK_EXPIRED, {"limit": SLICE_MACHINES}, _ids)
    if not ids:
        return Pruned()
    held, unborn = await Ask(sql.EXPIRE, {"ids": ids}, lambda rows: rows[0])
    return Pruned(held=held, unborn=unborn)


async def live(age: timedelta, ids: Sequence[UUID], *, dry_run: bool = False) -> Pruned:
    """What those among the machines that live had before `age`, as far as a replay does not need it."""
    await Ask(BY_KEY, {}, len)
    rows: list[Row] = await Ask(sql.LOCK_LIVE, {"age": age, "ids": list(ids)}, list)
    due = [row for row in rows if row[2] is not None and row[1] < row[2]]
    if dry_run or not rows:
        return Pruned(cut=len(due))
    cut = await _cut([row[0] for row in rows], [row[2] for row in rows], age, ended=False)
    return cut._replace(cut=len(due))


async def counted(retention: Retention) -> Pruned:
    """How many machines and held events there are to prune, the live ones apart."""
    parameters = {"details": retention.first, "whole": retention.whole}
    machines, forgotten, held = await Ask(sql.COUNT, parameters, lambda rows: rows[0])
    return Pruned(machines=machines, forgotten=forgotten, held=held)


def slices(retention: Retention) -> list[Slice]:
    """One slice of each kind, in the order in which they are done."""
    age = retention.first
    return [
        expired,
        *([partial(details, age)] if age is not None else []),
        *([partial(whole, retention.whole)] if retention.whole is not None else []),
    ]


class Pruning:
    """One call of `prune`: which slice comes next, and what all of them did. A slice that found nothing was the last of its kind."""

    def __init__(self, retention: Retention, *, live: bool, dry_run: bool) -> None:
        self.total = Pruned()
        self._age = retention.first
        self._dry_run = dry_run
        self._after: UUID | None = UUID(int=0) if live and self._age is not None else None
        self._last: UUID | None = None
        self._kinds: list[Slice] = [partial(counted, retention)] if dry_run else slices(retention)

    def next(self) -> Slice | None:
        """The next slice; None: that was all."""
        if self._kinds:
            return self._kinds[0]
        return None if self._after is None else self._page

    def done(self, slice_: Pruned) -> None:
        """What the slice did."""
        self.total = self.total.plus(slice_)
        if not self._kinds:
            self._after = self._last
            return
        if self._dry_run or not any(slice_):
            self._kinds.pop(0)

    async def _page(self) -> Pruned:
        parameters = {"after": self._after, "limit": SLICE_MACHINES}
        ids = await Ask(sql.PAGE, parameters, _ids)
        found = (
            await live(self._age, ids, dry_run=self._dry_run) if ids and self._age is not None else Pruned()
        )
        self._last = ids[-1] if ids else None
        return found


async def _cut(ids: list[UUID], bases: list[int | None], age: timedelta, *, ended: bool) -> Pruned:
    await Ask(sql.SNAPSHOT, {"ids": ids, "bases": bases}, len)
    parameters = {"ids": ids, "bases": bases, "age": age, "ended": ended}
    events, actions, attempts, _ = await Ask(sql.CUT, parameters, lambda rows: rows[0])
    return Pruned(events=events, actions=actions, attempts=attempts)


def _ids(rows: list[Row]) -> list[UUID]:
    return [row[0] for row in rows]
