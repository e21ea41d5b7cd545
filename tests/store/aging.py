"""Letting what a store holds grow old."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.store.world import MemoryWorld, PostgresWorld, World

_TIMES = {
    "machines": ("created_at", "updated_at", "ended_at"),
    "events": ("occurred_at",),
    "actions": ("created_at", "run_at", "published_at", "started_at", "finished_at"),
    "attempts": ("started_at", "ended_at"),
    "inbox": ("received_at", "expires_at"),
    "dedup": ("at",),
}


def grow_old(world: World, days: float) -> None:
    """All that is there has happened `days` days before; in memory, so many days pass."""
    if isinstance(world, MemoryWorld):
        world.origin.clock.advance(timedelta(days=days))
        return
    assert isinstance(world, PostgresWorld)
    for table, columns in _TIMES.items():
        changes = ", ".join(f"{column} = {column} - %s::interval" for column in columns)
        world.sql(f"UPDATE fsm.{table} SET {changes}", *[timedelta(days=days)] * len(columns))


def finish(world: World, idx: int | None = None, **columns: Any) -> None:
    """All open actions have been completed, or are as `columns` say."""
    now = (
        world.origin.clock.now()
        if isinstance(world, MemoryWorld)
        else datetime.now(UTC) - timedelta(minutes=1)
    )
    world.change_actions(idx, **{"status": "completed", "finished_at": now, **columns})
