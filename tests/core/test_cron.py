"""Schedules are machines: one start for each tick, in the schedule's own log."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from fsm_core import Machine, advance
from fsm_core.check import check
from fsm_core.codec import encode
from fsm_core.cron import Cron, Pause, Paused, Reschedule, Resume, Scheduled, Tick, ticks
from fsm_core.errors import DefinitionError, UnknownType
from fsm_core.memory import Clock, MemoryStore


@dataclass(frozen=True)
class Due:
    pass


@dataclass(frozen=True)
class Ran:
    pass


@dataclass(frozen=True)
class Run:
    pass


report = Machine("report", states=Due | Ran, events=Run, initial=Due(), final=Ran)


@report.on
def run(_state: Due, _event: Run) -> Ran:
    return Ran()


NIGHT = Cron("nightly", "0 3 * * *", report)
ALL = Cron("hourly", "0 * * * *", report, missed="all")
BERLIN = Cron("berlin", "30 2 * * *", report, zone="Europe/Berlin")
BEGIN = datetime(2026, 3, 27, 12, tzinfo=UTC)


def started(store: MemoryStore) -> list[str]:
    return sorted(record.key for record in store.machines("report", limit=10_000))


def run_on(cron: Cron, days: float, begin: datetime = BEGIN, step: float = 1 / 24) -> MemoryStore:
    store = MemoryStore(cron, report, clock=Clock(begin))
    store.start(cron, cron.name, cron.scheduled(begin))
    for _ in range(round(days / step)):
        store.clock.advance(timedelta(days=step))
        store.drain()
    return store


def test_each_tick_starts_one_machine() -> None:
    store = run_on(NIGHT, 3)

    assert started(store) == [f"nightly/2026-03-{day}T03:00Z" for day in (28, 29, 30)]
    assert store.get(NIGHT, "nightly").state == Scheduled(
        "0 3 * * *", "UTC", datetime(2026, 3, 31, 3, tzinfo=UTC)
    )
    assert [e.name for e in store.history(NIGHT, "nightly")] == ["Scheduled", "Tick", "Tick", "Tick"]
    assert all(store.get(report, key).state == Due() for key in started(store))


def test_of_missed_ticks_the_last_one_is_started() -> None:
    store = run_on(NIGHT, 5, step=5)
    assert started(store) == ["nightly/2026-04-01T03:00Z"]


def test_or_all_of_them() -> None:
    store = run_on(ALL, 1, step=1)
    assert len(started(store)) == 24
    long = run_on(ALL, 30, step=30)
    assert len(started(long)) == 30 * 24  # in two events: one makes up for 500


def test_a_zone_is_kept_through_the_change_of_the_clocks() -> None:
    """At 2:30 on 29 March there is no such time in Berlin: as Debian's cron, it runs right after the gap."""
    store = run_on(BERLIN, 4)
    assert started(store) == [
        "berlin/2026-03-28T01:30Z", "berlin/2026-03-29T01:00Z", "berlin/2026-03-30T00:30Z", "berlin/2026-03-31T00:30Z",
    ]  # fmt: skip


@pytest.mark.parametrize("minutes", [1, 31, 45, 61, 90])
def test_in_an_hour_that_comes_twice_the_next_tick_is_never_behind(minutes: int) -> None:
    """On 25 October 2:00 to 3:00 comes twice in Berlin, from 0:00 and from 1:00 UTC. A tick of the first that is late is one tick."""
    store = run_on(BERLIN, 1, begin=datetime(2026, 10, 24, 0, 29, tzinfo=UTC))
    store.clock.advance(timedelta(minutes=minutes))
    done = store.drain()

    assert done.completed < 5
    assert started(store) == ["berlin/2026-10-24T00:30Z", "berlin/2026-10-25T00:30Z"]
    assert store.get(BERLIN, "berlin").state.next == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    at = datetime(2026, 10, 25, 0, 29, tzinfo=UTC) + timedelta(minutes=minutes)
    assert next(ticks("30 2 * * *", "Europe/Berlin", at)) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_a_pause_misses_what_comes_in_it() -> None:
    store = run_on(NIGHT, 1)
    store.advance(NIGHT, "nightly", Pause())
    assert store.get(NIGHT, "nightly").state == Paused("0 3 * * *", "UTC")
    store.clock.advance(timedelta(days=2))
    store.drain()
    store.advance(NIGHT, "nightly", Resume())
    store.clock.advance(timedelta(days=1))
    store.drain()

    assert started(store) == ["nightly/2026-03-28T03:00Z", "nightly/2026-03-31T03:00Z"]


def test_another_expression_holds_from_now_on() -> None:
    store = run_on(NIGHT, 0.1, step=0.1)
    store.advance(NIGHT, "nightly", Reschedule("0 22 * * *", "UTC"))
    store.clock.advance(timedelta(days=1))
    store.drain()

    assert started(store) == ["nightly/2026-03-27T22:00Z"]


def test_a_machine_that_is_there_already_stops_no_schedule() -> None:
    store = MemoryStore(NIGHT, report, clock=Clock(BEGIN))
    store.start(NIGHT, "nightly")
    store.start(report, "nightly/2026-03-28T03:00Z")
    for _ in range(2):
        store.clock.advance(timedelta(days=1))
        store.drain()

    assert started(store) == ["nightly/2026-03-28T03:00Z", "nightly/2026-03-29T03:00Z"]
    assert [e.name for e in store.history(NIGHT, "nightly")] == ["Scheduled", "Tick", "Failed[Spawn]", "Tick"]


def test_cancelling_a_schedule_leaves_what_it_started() -> None:
    store = run_on(NIGHT, 1)
    store.cancel(NIGHT, "nightly")
    store.drain()
    assert store.get(report, "nightly/2026-03-28T03:00Z").status == "live"


def test_a_clock_that_lags_starts_no_tick_twice() -> None:
    """The database's clock may stand a little before the tick that its timer was set for."""
    store = MemoryStore(NIGHT, report, clock=Clock(BEGIN))
    at = datetime(2026, 3, 28, 3, tzinfo=UTC)
    early = Scheduled("0 3 * * *", "UTC", at)
    from uuid import UUID

    from fsm_core import Context

    decision = advance(NIGHT, early, Tick(), Context(at - timedelta(seconds=1), UUID(int=1), "nightly", 1))

    assert decision.state == Scheduled("0 3 * * *", "UTC", at + timedelta(days=1))
    assert len(decision.actions) == 2
    assert store.machines() == []


def test_nobody_ticks_by_hand() -> None:
    store = MemoryStore(NIGHT, report, clock=Clock(BEGIN))
    store.start(NIGHT, "nightly")
    with pytest.raises(UnknownType):
        store.advance(NIGHT, "nightly", Tick())


@pytest.mark.parametrize(
    ("cron", "zone", "says"),
    [
        ("nonsense", "UTC", "no cron expression"),
        ("99 * * * *", "UTC", "no cron expression"),
        ("0 3 * * *", "Moon/Sea", "no time zone"),
        ("* * */20 * 1L", "UTC", "never comes"),
    ],
)
def test_what_is_no_schedule_is_refused_at_definition(cron: str, zone: str, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        Cron("c", cron, report, zone=zone)


def test_without_the_extra_it_says_which_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(DefinitionError, match=r"cron 'c' needs cronsim: pip install 'fsm-core\[cron\]'"):
        Cron("c", "0 3 * * *", report)


def test_it_needs_something_to_start_with() -> None:
    bare: Machine[Due, Run] = Machine("bare", states=Due, events=Run)
    with pytest.raises(DefinitionError, match="initial"):
        Cron("c", "0 3 * * *", bare)
    assert encode(Cron("c", "0 3 * * *", bare, Due()).initial, "state")


def test_a_schedule_has_nothing_to_be_found_by_the_checks() -> None:
    assert [f for f in check(NIGHT) if f.accepted is None] == []
