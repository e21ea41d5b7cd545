"""A schedule and what it starts, for the workers' tests. The expression is the process's own."""

import os
from dataclasses import dataclass

from fsm_core import Effects, Machine, To
from fsm_core.cron import Cron


@dataclass(frozen=True)
class Due:
    pass


@dataclass(frozen=True)
class Ran:
    pass


@dataclass(frozen=True)
class Did:
    pass


@dataclass(frozen=True)
class Work:
    pass


report = Machine("report", states=Due | Ran, events=Did, actions=Work, initial=Due(), final=Ran)
effects = Effects(report)


@report.enter
def begin(_state: Due) -> list[Work]:
    return [Work()]


@report.on
def did(_state: Due, _event: Did) -> To[Ran]:
    return Ran()


@effects.act
def work(_action: Work) -> Did:
    return Did()


nightly = Cron("nightly", os.environ.get("TEST_CRON", "0 3 1 1 *"), report)
