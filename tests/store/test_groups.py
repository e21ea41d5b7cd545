"""Who leads, who waits, and when a group sets off: no clock, no thread."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from fsm_core.postgres.groups import GATHER, MOST, MOST_KINDS, Queue, Queues, Waiting

NOW = 100.0


def led(*names: str) -> Queue[str]:
    """A queue that the first one leads."""
    queue: Queue[str] = Queue()
    assert [queue.joins(name) for name in names] == [True] + [False] * (len(names) - 1)
    return queue


def test_who_comes_alone_waits_for_nothing() -> None:
    queue = led("a")

    assert queue.gap(NOW) == 0
    assert queue.taken() == []
    assert queue.over("a", 1, NOW) is None
    assert queue.joins("b")
    assert queue.gap(NOW) == 0


def test_what_has_come_meanwhile_goes_with_the_next_one() -> None:
    queue = led("a", "b", "c")

    assert queue.over("a", 1, NOW) == "b"
    assert queue.taken() == ["c"]
    assert not queue.joins("d")
    assert queue.over("b", 2, NOW) == "d"
    assert queue.over("b", 2, NOW) == "d", "said again"


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

    assert queue.taken() == names[1:MOST]
    assert queue.over(names[0], MOST, NOW) == names[MOST]


def test_who_loses_patience_leads_and_the_one_that_hangs_does_no_harm() -> None:
    queue = led("hangs", "b", "c")

    assert queue.usurps("b")
    assert queue.leader == "b"
    assert queue.taken() == ["c"]
    assert not queue.usurps("c"), "it is on its way"
    assert not queue.joins("d")
    assert queue.over("hangs", 1, NOW) == "b"
    assert queue.over("b", 2, NOW) == "d"


def test_queues_that_nobody_is_in_are_thrown_away() -> None:
    queues: Queues[str] = Queues()
    kept = queues.of("kept", NOW)
    kept.joins("a")
    for number in range(MOST_KINDS + 1):
        queues.of(number, NOW + 1)

    assert queues.of("kept", NOW + 1) is kept
    assert len(queues._by_kind) < MOST_KINDS


class Flag:
    """An event that nobody waits for."""

    up = False

    def set(self) -> None:
        self.up = True


class Callers:
    """Callers of one queue, who take their steps in any order; one of them is interrupted."""

    def __init__(self, count: int) -> None:
        self.queue: Queue[Waiting[Flag]] = Queue()
        self.all: list[Waiting[Flag]] = [Waiting(n, Flag()) for n in range(count)]  # type: ignore[arg-type]
        self.at = ["away"] * count
        self.done = [0] * count
        self.whole = True

    def steps(self) -> Iterator[tuple[int, str]]:
        """What may happen next, and to whom."""
        for n, one in enumerate(self.all):
            if self.at[n] in ("waits", "insists"):
                yield from [(n, "wakes")] if one.told.up else []
                yield from [(n, "usurps")] if self.at[n] == "waits" else []
            elif self.at[n] not in ("home", "gone"):
                yield n, {"away": "joins", "leads": "takes", "took": "ends"}[self.at[n]]
            if self.whole and self.at[n] not in ("away", "home", "gone"):
                yield n, "leaves"

    def step(self, n: int, name: str) -> None:
        one = self.all[n]
        if name == "joins":
            self.at[n] = "leads" if self.queue.joins(one) else "waits"
        elif name == "wakes":
            self.at[n] = "home" if one.answer else "leads"
        elif name == "usurps":
            self.at[n] = "leads" if self.queue.usurps(one) else "insists"
        elif name == "takes":
            one.others, self.at[n] = self.queue.taken(), "took"
            for each in (one, *one.others):
                self.done[self.all.index(each)] += 1
        else:
            one.leave(self.queue, NOW)
            self.at[n], self.whole = ("home", self.whole) if name == "ends" else ("gone", False)

    @property
    def stands(self) -> Any:
        """All that tells one situation from another."""
        place = {id(one): n for n, one in enumerate(self.all)}
        ones = [
            (one.told.up, one.answer is None, tuple(place[id(o)] for o in one.others)) for one in self.all
        ]
        waiting = tuple(place[id(one)] for one in self.queue.waiting)
        return (
            place.get(id(self.queue.leader)),
            waiting,
            tuple(ones),
            tuple(self.at),
            tuple(self.done),
            self.whole,
        )


def test_in_whatever_order_they_come_nobody_is_left_behind_or_done_twice() -> None:
    """All interleavings of three callers, who may lose patience, and one of whom is interrupted."""
    seen, ends, at_hand = set(), 0, [Callers(3)]
    while at_hand:
        callers = at_hand.pop()
        steps = list(callers.steps())
        for n, name in steps:
            following = deepcopy(callers)
            following.step(n, name)
            if following.stands not in seen:
                seen.add(following.stands)
                at_hand.append(following)
        assert max(callers.done) <= 1
        if not steps:
            ends += 1
            assert set(callers.at) <= {"home", "gone"}
            assert all(done or where == "gone" for done, where in zip(callers.done, callers.at, strict=True))
            assert (callers.queue.leader, callers.queue.waiting) == (None, [])
    assert ends > 1
