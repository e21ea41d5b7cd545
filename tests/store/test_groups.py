"""Who leads, who waits, and when a group sets off: no clock, no thread."""

import pytest

from fsm_core.postgres.groups import GATHER, MOST, MOST_KINDS, Queue, Queues

NOW = 100.0


def led(*names: str) -> Queue[str]:
    """A queue that the first one leads."""
    queue: Queue[str] = Queue()
    assert [queue.joins(name) for name in names] == [True] + [False] * (len(names) - 1)
    return queue


def test_who_comes_alone_waits_for_nothing() -> None:
    queue = led("a")

    assert queue.gap(NOW) == 0
    assert queue.taken("a") == ["a"]
    assert queue.over("a", 1, NOW) is None
    assert queue.joins("b")
    assert queue.gap(NOW) == 0


def test_what_has_come_meanwhile_goes_with_the_next_one() -> None:
    queue = led("a", "b", "c")

    assert queue.over("a", 1, NOW) == "b"
    assert queue.taken("b") == ["b", "c"]
    assert not queue.joins("d")
    assert queue.over("b", 2, NOW) == "d"


def test_those_who_were_answered_may_come_back_first_but_not_for_ever() -> None:
    queue = led("a")
    queue.over("a", 3, NOW)
    assert queue.joins("b")

    assert queue.gap(NOW) == pytest.approx(GATHER)
    assert queue.gap(NOW + 2 * GATHER) == 0
    assert not queue.joins("c")
    assert not queue.full
    assert not queue.joins("d")
    assert queue.full
    assert queue.gap(NOW) == 0


def test_a_group_has_its_bound() -> None:
    names = [str(n) for n in range(MOST + 5)]
    queue = led(*names)

    assert queue.taken(names[0]) == names[:MOST]
    assert queue.over(names[0], MOST, NOW) == names[MOST]


def test_who_loses_patience_leads_and_the_one_that_hangs_does_no_harm() -> None:
    queue = led("hangs", "b", "c")

    assert queue.usurps("b")
    assert queue.leader == "b"
    assert queue.taken("b") == ["b", "c"]
    assert not queue.usurps("c"), "it is on its way"
    assert not queue.joins("d")
    assert queue.over("hangs", 1, NOW) is None
    assert queue.leader == "b"
    assert queue.over("b", 2, NOW) == "d"


def test_queues_that_nobody_is_in_are_thrown_away() -> None:
    queues: Queues[str] = Queues()
    kept = queues.of("kept", NOW)
    kept.joins("a")
    for number in range(MOST_KINDS + 1):
        queues.of(number, NOW + 1)

    assert queues.of("kept", NOW + 1) is kept
    assert len(queues._by_kind) < MOST_KINDS
