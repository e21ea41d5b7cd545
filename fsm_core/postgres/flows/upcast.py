"""`upcast`: what older versions wrote, in the present shape; in batches by key, each machine under its own guard."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fsm_core.delivery.upcasting import OpenAction, Unread, Upcast, is_due, judged, may_hold_older
from fsm_core.errors import Busy
from fsm_core.postgres import params
from fsm_core.postgres.ask import Ask, Row
from fsm_core.postgres.flows.advance import one
from fsm_core.postgres.statements import machines
from fsm_core.postgres.statements import upcast as sql
from fsm_core.postgres.statements.audit import BY_KEY
from fsm_core.rows import STATE_TIMER
from fsm_core.types import MachineStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from uuid import UUID

    from fsm_core.payload import Limits
    from fsm_core.postgres.statements import Statement
    from fsm_core.registry import AnyMachine, Registry
    from fsm_core.unit import Seen, Unit

T = TypeVar("T")

BATCH = 500


class Upcasting:
    """One call of `upcast`: the flows that do it, one after another, and what they have done so far.

    every: also machines whose own version is registered. progress: is told after each batch how many machines were looked at.
    """

    def __init__(
        self,
        registry: Registry,
        machine: AnyMachine,
        limits: Limits,
        *,
        dry_run: bool,
        every: bool,
        progress: Callable[[int], object] | None,
    ) -> None:
        self.done = Upcast()
        self.what = f"upcast {machine.name}"
        self._registry, self._machine, self._limits = registry, machine, limits
        self._dry_run, self._every = dry_run, every
        self._progress = progress
        statuses = [MachineStatus.LIVE.value, *([MachineStatus.UNBORN.value] if dry_run else [])]
        below = machine.version + 1 if dry_run else machine.version
        self._asked = {"fsm": machine.name, "below": below, "statuses": statuses, "limit": BATCH}
        self._after: str | None = ""
        self._missed: list[UUID] = []

    def flows(self) -> Iterator[Callable[[], Coroutine[Ask[Any], Any, None]]]:
        """Each to be run in a transaction of its own, with a bounded wait for locks."""
        while self._after is not None and self._machine.version > 1:
            yield partial(self._batch, self._after)
        for machine in self._missed:
            yield partial(self._single, machine)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Around each of them: a machine that somebody holds for too long holds up no other."""
        try:
            yield
        except Busy:
            self.done = self.done.plus(Upcast(busy=1))

    async def _batch(self, after: str) -> None:
        await Ask(BY_KEY, {}, len)
        rows: list[Row] = await Ask(sql.OLDER, {**self._asked, "after": after}, list)
        last, looked = rows[0][:2]
        seen = [params.seen(row[2:]) for row in rows if row[2] is not None]
        due = self._due(seen)
        others = [s for s in seen if self._dry_run and may_hold_older(self._machine, s.status, s.version)]
        units, unread = await self._judged([*due, *others])
        written = await self._write(units)
        self._missed += [unit.seen.id for unit in units if unit.seen.id not in written]
        self._after = last if looked == BATCH else None
        failed = len({each.key for each in unread})
        self.done = self.done.plus(Upcast(looked, len(due), len(written), 0, failed, tuple(unread)))
        if self._progress is not None:
            self._progress(looked)

    async def _single(self, machine: UUID) -> None:
        """One that moved between the read and the write: again, under its lock. It may need nothing by now."""
        await Ask(machines.LOCK_ID, {"id": machine}, len)
        row = await Ask(machines.READ_MANY, {"ids": [machine]}, one)
        found = self._due([] if row is None else [params.seen(row)])
        units, unread = await self._judged(found)
        written = await self._write(units)
        self.done = self.done.plus(
            Upcast(written=len(written), unreadable=1 if unread else 0, unread=tuple(unread))
        )

    def _due(self, found: Sequence[Seen]) -> list[Seen]:
        given = self._registry, self._machine
        return [seen for seen in found if is_due(*given, seen.status, seen.version, every=self._every)]

    async def _judged(self, found: Sequence[Seen]) -> tuple[list[Unit], list[Unread]]:
        ids = {"ids": [seen.id for seen in found]}
        held = await _by_machine(sql.HELD, ids, lambda row: params.held(row[1:]))
        actions = await _by_machine(sql.OPEN, ids, lambda row: OpenAction(*row[1:]))
        units: list[Unit] = []
        wrong: list[Unread] = []
        for seen in found:
            unit, unread = judged(
                self._registry, self._machine, seen, held[seen.id], actions[seen.id], limits=self._limits
            )
            units += [] if unit is None else [unit]
            wrong += unread
        return units, wrong

    async def _write(self, units: Sequence[Unit]) -> set[UUID]:
        """The machines that are written; in a dry run, those that would be."""
        if self._dry_run or not units:
            return {unit.seen.id for unit in units}
        now = [(unit.seen, unit.rebased) for unit in units if unit.rebased is not None]
        parameters = {
            "id": [seen.id for seen, _ in now], "rev": [seen.rev for seen, _ in now], "seq": [new.seq for _, new in now],
            "version": [new.version for _, new in now], "state_name": [new.state_name for _, new in now],
            "state": [new.state for _, new in now], "before": [f"{STATE_TIMER}{new.before}" for _, new in now],
            "after": [f"{STATE_TIMER}{new.state_name}" for _, new in now],
        }  # fmt: skip
        written: set[UUID] = await Ask(sql.UPCAST, parameters, lambda rows: {row[0] for row in rows})
        return written


async def _by_machine(
    statement: Statement, ids: dict[str, list[UUID]], reads: Callable[[Row], T]
) -> dict[UUID, list[T]]:
    found: dict[UUID, list[T]] = defaultdict(list)
    for row in await Ask(statement, ids, list[Row]) if ids["ids"] else ():
        found[row[0]].append(reads(row))
    return found
