"""How rivals are held against each other, and what is said of one that is not there."""

from benchmarks.rivals import CELERY, OURS, PGQUEUER
from benchmarks.rounds import Took, beside, cost
from benchmarks.running import Turn


def took(*turns: tuple[float, float]) -> Took:
    return Took(tuple(Turn(rate, {"client": cpu, "worker": cpu / 2}) for rate, cpu in turns))


def test_turns_count_by_their_median() -> None:
    found = took((100, 10), (300, 30), (200, 20))

    assert (found.rate, found.best, found.cpu) == (200, 300, 30)
    assert found.shares == "client 20, worker 10"


def test_a_peer_is_held_against_us_with_the_ratio_to_be_reached() -> None:
    (row,) = beside("cycles", {OURS.name: took((600, 1)), PGQUEUER.name: took((250, 1))}, {PGQUEUER: 3})

    assert (row.figure, row.limit, row.ratio, row.met) == (600, 250, 2.4, False)


def test_a_peer_that_is_not_installed_is_a_missed_target_and_says_so() -> None:
    rows = list(beside("cycles", {OURS.name: took((600, 1))}, {PGQUEUER: 3, CELERY: None}))

    assert [row.met for row in rows] == [False, None]
    assert all("not installed" in row.note for row in rows)


def test_the_cost_of_a_cycle_is_that_of_all_processes() -> None:
    row = cost({OURS.name: took((600, 20))})

    assert (row.figure, row.note) == (30, "client 20, worker 10")
