"""What an operator does: retry what failed, cancel an action or a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_core.births import cancelled
from fsm_core.errors import ActionNotFound, MachineEnded, NotRetried, WrongStatus
from fsm_core.postgres import params
from fsm_core.postgres.ask import Ask
from fsm_core.postgres.flows.advance import one
from fsm_core.postgres.flows.look import find_born
from fsm_core.postgres.statements import machines as sql
from fsm_core.postgres.statements import outbox
from fsm_core.types import ActionId, ActionStatus, Spawn

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_SEQ, MAX_IDX = 2**31 - 1, 2**15 - 1
"""What the columns of an action's id hold; no row has more."""

OPEN = (ActionStatus.BLOCKED, ActionStatus.PENDING, ActionStatus.PUBLISHED, ActionStatus.RUNNING)


async def retry(wanted: Sequence[ActionId]) -> list[ActionId]:
    """Put failed actions back with a fresh budget of attempts; a kept outcome is applied, not re-run.

    Returns those that went back. With one action asked for: raises ActionNotFound, WrongStatus, NotRetried; nothing changed.
    """
    possible = [
        each for each in dict.fromkeys(wanted) if abs(each.seq) <= MAX_SEQ and abs(each.idx) <= MAX_IDX
    ]
    rows = await Ask(outbox.RETRY, params.keys(possible), list)
    if len(wanted) == 1:
        if not rows:
            raise ActionNotFound(str(wanted[0]))
        if rows[0][3] != ActionStatus.FAILED:
            raise WrongStatus(str(wanted[0]), rows[0][3], (ActionStatus.FAILED,))
        if rows[0][4] == Spawn.__name__:
            raise NotRetried(str(wanted[0]))
    return [ActionId(*row[:3]) for row in rows if row[3] == ActionStatus.FAILED and row[4] != Spawn.__name__]


async def cancel_action(wanted: ActionId, note: str) -> None:
    """Cancel one action that has not finished, or has failed. Raises ActionNotFound, WrongStatus; nothing changed.

    A result of what runs already is recorded as late and not applied.
    """
    await Ask(sql.LOCK_ID, {"id": wanted.machine_id}, len)
    key = {"machine": wanted.machine_id, "seq": wanted.seq, "idx": wanted.idx, "note": note}
    row = await Ask(outbox.CANCEL_ACTION, key, one)
    if row is None:
        raise ActionNotFound(str(wanted))
    allowed = (*OPEN, ActionStatus.FAILED)
    if row[0] not in allowed:
        raise WrongStatus(str(wanted), row[0], tuple(allowed))


async def cancel_machine(name: str, key: str, note: str) -> int:
    """End a machine and cancel its open actions; its children follow. Returns how many actions.

    Raises MachineNotFound, MachineEnded; nothing changed.
    """
    await Ask(sql.LOCK, {"fsm": name, "key": key}, len)
    seen = await find_born(name, key)
    idx, children = await Ask(sql.BEFORE_CANCEL, {"id": seen.id, "seq": seen.seq}, lambda rows: rows[0])
    left = params.left_behind(cancelled(seen, idx, note, children))
    row = await Ask(sql.CANCEL, {"id": seen.id, "fsm": name, "key": key, "note": note, **left}, one)
    if row is None:
        raise MachineEnded(name, key, seen.status)
    return int(row[1])
