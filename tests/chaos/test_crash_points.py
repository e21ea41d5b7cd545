"""Each crash point is reached by real processes, which are killed there, and everything ends right."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from chaos.mutants import small
from chaos.plan import CRASHES, MIGRATION
from fsm_core.errors import ConfigurationError
from fsm_core.postgres import crash
from fsm_core.postgres.crash import Crashed, Order, Point, arm, orders, reached
from tests.chaos.conftest import Rig, said


def test_every_point_of_the_registry_is_among_those_at_which_a_run_kills() -> None:
    """A new point that no process is armed with fails here."""
    armed = {point.partition(":")[0] for points in (*CRASHES.values(), MIGRATION) for point in points}
    assert armed == set(Point)


@pytest.mark.release
@pytest.mark.timeout(600)
def test_killed_at_every_point_once_and_twice_everything_ends_right(rig: Rig) -> None:
    """The oracle finds nothing, and every point but the migration's was died at twice or more."""
    kinds = {"work": 4, "slow": 2, "lane": 3, "spawn": 1, "send": 1}
    plan = small("points", 10, 30, 20, kinds=kinds, submitters=2, relays=2, crashes=CRASHES, patience=120.0)
    evidence, judgement = rig.run(
        plan, styles={"dedup": 1}, workers={"threads": "threads", "solo": "solo", "proxied": "threads"}
    )

    assert said(judgement) == {}
    assert judgement.invalid == []
    deaths = Counter(evidence.points)
    assert {point for point in Point if deaths[point] < 2} == set(MIGRATION)


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("worker.after_claim", Order(1, "kill")),
        ("worker.after_claim:3", Order(3, "kill")),
        ("worker.after_claim:2:stop", Order(2, "stop")),
        ("worker.after_claim::raise", Order(1, "raise")),
        ("worker.after_claim:1:sleep=0.5", Order(1, "sleep", 0.5)),
    ],
)
def test_an_order_says_when_and_what(text: str, order: Order) -> None:
    assert orders(text) == {Point.WORKER_AFTER_CLAIM: order}


def test_orders_for_pairs_are_separated_by_commas() -> None:
    assert orders("relay.after_mark, worker.in_effect:2") == {
        Point.RELAY_AFTER_MARK: Order(),
        Point.WORKER_IN_EFFECT: Order(2),
    }


@pytest.mark.parametrize(
    "text", ["nowhere", "relay.after_mark:x", "relay.after_mark:1:burn", "relay.after_mark:1:sleep=x"]
)
def test_an_order_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="FSM_CRASH_AT"):
        orders(text)


def test_a_point_counts_and_only_the_nth_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unarmed points, and armed ones before and after their time, do nothing."""
    try:
        arm({crash.VARIABLE: "relay.after_mark:2:raise"})
        reached(Point.RELAY_AFTER_PUBLISH)
        reached(Point.RELAY_AFTER_MARK)
        with pytest.raises(Crashed, match=r"relay\.after_mark"):
            reached(Point.RELAY_AFTER_MARK)
        reached(Point.RELAY_AFTER_MARK)
    finally:
        arm({})
    reached(Point.RELAY_AFTER_MARK)


def test_a_process_is_armed_by_a_file_while_it_runs(tmp_path: Path) -> None:
    """Nothing is armed while there is none; what it says makes sense, or is refused."""
    orders = tmp_path / "orders"
    try:
        arm({crash.VARIABLE: f"@{orders}"})
        reached(Point.RELAY_AFTER_MARK)
        orders.write_text("relay.after_mark::raise")
        reached(Point.RELAY_AFTER_PUBLISH)
        with pytest.raises(Crashed, match=r"relay\.after_mark"):
            reached(Point.RELAY_AFTER_MARK)
        orders.write_text("nowhere")
        with pytest.raises(ConfigurationError, match="nowhere"):
            reached(Point.RELAY_AFTER_MARK)
        orders.unlink()
        reached(Point.RELAY_AFTER_MARK)
    finally:
        arm({})


def test_a_process_is_armed_by_its_environment_and_dies_by_sigkill() -> None:
    code = "from fsm_core.postgres.crash import Point, reached; reached(Point.MIGRATE_MID); print('alive')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, crash.VARIABLE: "migrate.mid"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")
    assert done.stderr.startswith("crash point migrate.mid, process ")
