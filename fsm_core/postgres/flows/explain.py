"""`explain`: the facts of one machine that does not move."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from fsm_core.explain import Action, Facts, Limited
from fsm_core.postgres import params
from fsm_core.postgres.ask import Ask, Row
from fsm_core.postgres.flows.look import as_record, find
from fsm_core.postgres.statements import explain as sql
from fsm_core.types import ActionId, ActionStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


async def facts(name: str, key: str) -> Facts:
    """What the database has of it. Raises MachineNotFound."""
    seen = await find(name, key)
    rows: list[Row] = await Ask(sql.OPEN_ACTIONS, {"id": seen.id}, list)
    actions = tuple(_action(row) for row in rows)
    processes: list[Row] = await Ask(sql.PROCESSES, {}, list)
    queues = sorted({action.queue for action in actions})
    published: list[Row] = await Ask(sql.PUBLISHED, {"queues": queues}, list)
    under = {(action.limit, action.limit_key or "") for action in actions if action.limit is not None}
    wanted = sorted(under | {(f"queue:{queue}", "") for queue in queues})
    names, keys = ([each[place] for each in wanted] for place in (0, 1))
    limits: list[Row] = await Ask(sql.LIMITED, {"names": names, "keys": keys}, list)
    versions: dict[str, set[int]] = defaultdict(set)
    for row in processes:
        for machine, known in row[2].items():
            versions[machine].update(known)
    return Facts(
        now=_now(seen.at, rows, processes),
        record=as_record(seen),
        actions=actions,
        relays=sum(row[0] == "relay" for row in processes),
        queues=frozenset(queue for row in processes if row[0] != "relay" for queue in row[1]),
        versions={machine: frozenset(known) for machine, known in versions.items()},
        published={row[0]: int(row[1]) for row in published},
        limits={(row[0], row[1]): Limited(*row[2:]) for row in limits},
    )


def _now(at: datetime, *asked: Sequence[Row]) -> datetime:
    """The database's clock, as the last statement that answered it read it; `at` may be the machine's last event."""
    told = [params.utc(rows[0][-1]) for rows in asked if rows]
    return told[-1] if told else params.utc(at)


def _action(row: Row) -> Action:
    return Action(
        id=ActionId(row[0], row[1], row[2]), name=row[3], version=row[4], status=ActionStatus(row[5]), queue=row[6],
        run_at=params.utc(row[7]), attempt=row[8], publishes=row[9], timer=row[10], lane=row[11], limit=row[12],
        limit_key=row[13], published_at=_utc(row[14]), started_at=_utc(row[15]), error=params.message(row[16]), note=params.said(row[17]),
        worker=row[18], lease=_utc(row[19]), holder=row[20], known=row[21], told=row[22],
    )  # fmt: skip


def _utc(value: datetime | None) -> datetime | None:
    return None if value is None else params.utc(value)
