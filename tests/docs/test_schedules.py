"""docs/schedules.md: its machines run, and what it says of ticks, zones, pauses and keys holds."""

import importlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fsm_core.memory import Clock, MemoryStore
from tests.docs.test_readme import ROOT, blocks, named_modules, written
from workers.settings import load

PAGE = ROOT / "docs" / "schedules.md"


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The page's module `shop.reports`."""
    written(PAGE, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("shop.reports")
    for name in [name for name in sys.modules if name == "shop" or name.startswith("shop.")]:
        del sys.modules[name]


def test_every_block_is_run() -> None:
    assert list(named_modules(PAGE)) == ["shop/reports.py", "celeryconfig.py", "tests/test_nightly.py"]
    assert len(blocks(PAGE, "python")) == 3


def test_the_pages_own_test_passes(reports: Any) -> None:
    namespace: dict[str, Any] = {}
    exec(named_modules(PAGE)["tests/test_nightly.py"], namespace)

    namespace["test_a_report_is_written_each_night"]()


def test_the_settings_list_what_there_is(reports: Any) -> None:
    settings: dict[str, Any] = {}
    exec(named_modules(PAGE)["celeryconfig.py"], settings)

    assert sorted(machine.name for machine in load(settings["fsm_machines"]).machines()) == [
        "nightly", "report",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("noon", "keys"),
    [
        ((2026, 6, 30), ["nightly/2026-07-01T01:00Z"]),  # summer in Berlin
        ((2026, 12, 30), ["nightly/2026-12-31T02:00Z"]),  # winter
    ],
)
def test_keys_are_ticks_in_utc(reports: Any, noon: tuple[int, int, int], keys: list[str]) -> None:
    assert started(reports, datetime(*noon, 12, tzinfo=UTC), days=1) == keys


def test_an_hour_that_does_not_come_runs_after_the_gap_and_one_that_comes_twice_once(reports: Any) -> None:
    early = reports.Cron("early", "30 2 * * *", reports.report, zone="Europe/Berlin")

    spring, autumn = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert started(reports, spring, days=1, cron=early) == ["early/2026-03-29T01:00Z"]
    assert started(reports, autumn, days=1, cron=early) == ["early/2026-10-25T00:30Z"]


def test_a_schedule_that_was_cancelled_is_not_started_again(reports: Any) -> None:
    noon = datetime(2026, 6, 30, 12, tzinfo=UTC)
    store = MemoryStore(reports.nightly, reports.effects, clock=Clock(noon))
    for _ in range(2):
        now = store.start(reports.nightly, "nightly", reports.nightly.scheduled(noon))
        if now.status == "live":
            store.cancel(reports.nightly, "nightly")

    assert (now.status, now.duplicate) == ("cancelled", True)


def started(reports: Any, begin: datetime, *, days: int, cron: Any = None) -> list[str]:
    """The keys of what a schedule has started in so many days, looked at each hour."""
    schedule = cron or reports.nightly
    store = MemoryStore(schedule, reports.effects, clock=Clock(begin))
    store.start(schedule, schedule.name, schedule.scheduled(begin))
    for _ in range(days * 24):
        store.clock.advance(timedelta(hours=1))
        store.drain()
    return sorted(record.key for record in store.machines("report"))
