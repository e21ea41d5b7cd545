"""What a worker does about its schedules when it starts, step by step."""

from typing import Any

from sqlalchemy import Engine

from fsm_core.cron import Cron, Pause
from fsm_core.postgres import PostgresStore
from fsm_core.registry import Registry
from tests.workers.crons import report
from workers.schedules import ensure


class Crossed(PostgresStore):
    """Something happens to the schedule between the look at it and what is done about it, once."""

    crossed = False

    def advance(self, machine: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.crossed:
            self.crossed = True
            super().advance(machine, key, Pause())
        return super().advance(machine, key, *args, **kwargs)


def test_a_schedule_that_moves_meanwhile_is_rescheduled_all_the_same(engine: Engine) -> None:
    """And so is the next one of the process."""
    early = {name: Cron(name, "0 3 1 1 *", report) for name in ("one", "two")}
    late = {name: Cron(name, "30 4 1 1 *", report) for name in ("one", "two")}
    ensure(PostgresStore(engine), Registry([report, *early.values()]))

    ensure(Crossed(engine), Registry([report, *late.values()]))

    store = PostgresStore(engine)
    assert [store.get(each, name).state.cron for name, each in late.items()] == ["30 4 1 1 *"] * 2
