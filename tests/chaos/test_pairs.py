"""Two processes die for one action, the second at what the first has left, and everything ends right."""

from pathlib import Path

import pytest

from chaos.lives import live, lived
from chaos.pairs import OWNERS, PAIRS, Lived
from chaos.servers import Postgres, Valkey
from fsm_core.postgres.crash import LIFE, Point


def test_each_ordered_pair_of_the_points_in_a_life_is_lived_through() -> None:
    """Every point but the migration's is in an action's life, and somebody of a stack passes it."""
    assert {point for point in Point if point not in LIFE} == {Point.MIGRATE_MID}
    assert set(PAIRS) == {(first, second) for first in LIFE for second in LIFE}
    assert {point.partition(".")[0] for point in LIFE} == set(OWNERS)


FIRST, SECOND = Point.RELAY_AFTER_MARK, Point.WORKER_IN_EFFECT


class Fake:
    """What a stack shows after one life: its processes' log, and the row of its database."""

    def __init__(self, folder: Path, *died: str, row: tuple[object, ...], failure: str = "") -> None:
        self.folder, self._row = folder, row
        self.lived = [Lived("0", (FIRST, SECOND), failure=failure)]
        said = (f"crash point {point}, process 7, {100.0 + n:.3f}\n" for n, point in enumerate(died))
        (folder / "a.log").write_text("".join(said))

    def ask(self, _query: str) -> list[tuple[object, ...]]:
        return [self._row]


DONE = ("0", 105.0, 1, 0)


@pytest.mark.parametrize(
    ("died", "row", "failure", "found"),
    [
        ([FIRST, SECOND], DONE, "", 0),
        ([SECOND, FIRST], DONE, "", 1),
        ([FIRST], DONE, "", 1),
        ([FIRST, SECOND], DONE, "not in time", 1),
        ([FIRST, SECOND], ("0", None, 1, 0), "", 1),
        ([FIRST, SECOND], ("0", 100.5, 1, 0), "", 1),
        ([FIRST, SECOND], ("0", 105.0, 2, 0), "", 1),
        ([FIRST, SECOND], ("0", 105.0, 1, 1), "", 1),
        ([FIRST, SECOND], ("1", 105.0, 1, 0), "", 1),
    ],
)
def test_a_life_has_its_two_deaths_in_their_order_and_then_ends_once(
    tmp_path: Path, died: list[str], row: tuple[object, ...], failure: str, found: int
) -> None:
    assert len(lived(Fake(tmp_path, *died, row=row, failure=failure)).failures) == found


@pytest.mark.slow
def test_who_takes_up_what_a_dead_process_has_left_may_die_of_it_too(
    breakable: tuple[Postgres, Valkey], tmp_path: Path
) -> None:
    """The pairs that are hardest to come by: a second death of one kind, a lease that is taken away, a caller after its worker."""
    pairs = [
        (Point.ADVANCE_AFTER_COMMIT, Point.ADVANCE_BEFORE_COMMIT),
        (Point.WORKER_AFTER_CLAIM, Point.RECONCILE_AFTER_DEAD),
        (Point.RELAY_AFTER_ADMIT, Point.RELAY_AFTER_ADMIT),
    ]
    found = live(tmp_path, *breakable, pairs, stacks=3)

    assert {verdict.check: verdict.failures[:5] for verdict in found.verdicts if verdict.failures} == {}
    assert {life.pair for life in found.lives} == set(pairs)


@pytest.mark.release
@pytest.mark.timeout(1800)
def test_all_pairs_are_lived_through(breakable: tuple[Postgres, Valkey], tmp_path: Path) -> None:
    found = live(tmp_path, *breakable)

    assert {verdict.check: verdict.failures[:5] for verdict in found.verdicts if verdict.failures} == {}
    assert {life.pair for life in found.lives} == set(PAIRS)
