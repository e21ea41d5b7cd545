"""`check-upgrade`: the first event that other code decides otherwise, with what was recorded and what it would be."""

from dataclasses import dataclass, replace
from typing import Any

from fsm_core import Machine, Rejected, To
from fsm_core.audit import Base, Emission, FieldChange, Log, Report, fsck, upgraded
from fsm_core.memory import MemoryStore
from fsm_core.registry import Registry
from tests.audit.fetching import Go, Got, Nag, Stop, build, fetching
from tests.audit.logs import lived


def test_the_code_that_wrote_a_log_decides_as_it_did() -> None:
    checked = upgraded(lived(Go("x"), Nag(), Stop()), Registry([fetching]))

    assert checked == (None, 4, ())


def test_the_first_event_that_emits_other_actions_is_named() -> None:
    """With the recorded action and the one that this code would emit, by their place."""
    difference = upgraded(lived(Go("x", 2.0), Go("y")), Registry([build(tax=0.5)])).difference

    assert difference is not None
    assert (difference.machine, difference.key, difference.seq, difference.event) == (
        "fetching",
        "a",
        1,
        "Go",
    )
    assert difference.actions == (
        Emission(0, 'Fetch {"name":"x","price":2.0}', 'Fetch {"name":"x","price":2.5}'),
    )
    assert (difference.error, difference.state) == (None, ())


def test_an_action_more_or_less_is_a_difference() -> None:
    """One side of it is empty then."""
    log = lived(Go("x"))
    more = replace(log, rows=(*log.rows, log.rows[0]._replace(idx=9)))
    less = replace(log, rows=log.rows[1:])

    for changed, emission in (
        (more, Emission(9, 'Fetch {"name":"x","price":1.0}', None)),
        (less, Emission(0, None, 'Fetch {"name":"x","price":1.0}')),
    ):
        difference = upgraded(changed, Registry([fetching])).difference
        assert difference is not None
        assert difference.actions == (emission,)


def test_where_actions_go_is_no_decision() -> None:
    """A new route is for new rows; those that are written keep theirs."""
    log = lived(Go("x"))
    moved = replace(log, rows=tuple(row._replace(queue="other", priority=0) for row in log.rows))

    assert upgraded(moved, Registry([fetching])).difference is None


def test_another_state_shows_at_the_end_of_the_log() -> None:
    """States in between are not recorded; the last one is."""
    difference = upgraded(
        lived(Go("x", 2.0), Got("x")), Registry([build(tip=0.25, restores=False)])
    ).difference

    assert difference is not None
    assert (difference.seq, difference.event, difference.actions) == (2, "Got", ())
    assert difference.state == (FieldChange("total", "changed", 2.0, 2.25),)


def test_an_event_that_is_refused_now_is_a_difference() -> None:
    difference = upgraded(lived(Go("x"), Go("y"), Nag()), Registry([build(refuses="y")])).difference

    assert difference is not None
    assert (difference.seq, difference.event, difference.error) == (2, "Go", "Rejected: no y today")


def test_what_differs_before_a_refusal_is_the_first_difference() -> None:
    difference = upgraded(lived(Go("x"), Go("y")), Registry([build(tax=0.5, refuses="y")])).difference

    assert difference is not None
    assert (difference.seq, difference.error) == (1, None)


def test_a_version_that_nobody_reads_is_counted() -> None:
    assert upgraded(lived(Go("x")), Registry([build(version=2)])) == (None, 0, (1,))


@dataclass(frozen=True)
class Count:
    n: int = 0


@dataclass(frozen=True)
class Tally:
    n: int
    unit: str = "one"


@dataclass(frozen=True)
class Add:
    n: int = 1


@dataclass(frozen=True)
class Say:
    text: str


def counter(*, by: int = 1, unit: str = "one") -> Machine[Tally, Add, Say]:
    """Version 2 of a counter, which reads version 1. by: what it makes of one. unit: what it makes of a `Count`."""
    made = Machine("counter", states=Tally, events=Add, actions=Say, initial=Tally(0), version=2)

    @made.upcast(1, "Count")
    def tally(state: Count) -> Tally:
        return Tally(state.n, unit)

    @made.on
    def add(state: Tally, event: Add) -> To[Tally, Say]:
        return replace(state, n=state.n + by * event.n), [Say(f"{state.n}")]

    return made


def counter_one() -> Machine[Count, Add, Say]:
    made = Machine("counter", states=Count, events=Add, actions=Say, initial=Count())

    @made.on
    def add(state: Count, event: Add) -> To[Count, Say]:
        return Count(state.n + event.n), [Say(f"{state.n}")]

    return made


def counted() -> Log:
    return lived(Add(), Add(2), machine=counter_one())


def test_a_newer_version_that_reads_the_old_one_is_checked_on_its_log() -> None:
    """What the old one recorded is read in the new shape, and compared in it."""
    assert upgraded(counted(), Registry([counter()])) == (None, 3, ())

    difference = upgraded(counted(), Registry([counter(by=2)])).difference
    assert difference is not None
    assert (difference.seq, difference.actions) == (2, (Emission(0, 'Say {"text":"1"}', 'Say {"text":"2"}'),))


def test_versions_that_are_here_are_checked_on_their_own_code() -> None:
    """A row of version 1 runs on version 1, as long as that is registered."""
    assert upgraded(counted(), Registry([counter_one(), counter(by=2)])) == (None, 3, ())


def test_a_log_that_changed_its_version_on_the_way_replays_through_the_upcast() -> None:
    """Also from the state that was written then, when the first version is not here any more."""
    one, two = counter_one(), counter()
    before = MemoryStore()
    before.start(one, "a")
    before.advance(one, "a", Add())
    after = before.reopen(two)
    after.advance(two, "a", Add(2))
    log = after.log(two, "a")

    assert [each.version for each in log.entries] == [1, 1, 2]
    assert log.snapshots == (Base(1, 2, "Tally", '{"n":1,"unit":"one"}'),)
    assert upgraded(log, Registry([one, two])) == (None, 3, ())
    assert upgraded(log, Registry([two])) == (None, 3, ())
    assert fsck(log, Registry([one, two])) == Report([], 3, ())
    assert fsck(log, Registry([two])) == Report([], 1, (1,))
    assert fsck(log, Registry([one])) == Report([], 0, (2,))
    # What the upcast made then is on record, whatever it would make now.
    assert fsck(log, Registry([one, counter(unit="two")])).findings == []
    migrated = replace(
        log, seen=log.seen._replace(seq=1, state='{"n":1}'), entries=log.entries[:2], rows=log.rows[:1]
    )
    assert fsck(migrated, Registry([one, counter(unit="two")])).findings == []
    assert [f.code for f in fsck(replace(migrated, snapshots=()), Registry([one, two])).findings] == [
        "version"
    ]


def test_a_timer_of_a_state_is_renamed_with_it() -> None:
    """An upcast gives the armed timer the state's present name; the log that set it has the old one."""
    one, two = counter_one(), counter()
    for machine in (one, two):
        machine.timeout(after=60)(tired if machine is one else weary)
    before = MemoryStore()
    before.start(one, "a")
    assert upgraded(before.log(one, "a"), Registry([two])).difference is None
    after = before.reopen(two)
    after.advance(two, "a", Add())
    log = after.log(two, "a")
    assert [(row.seq, row.timer) for row in log.rows if row.timer] == [(0, "state:Tally")]

    assert fsck(log, Registry([one, two])).findings == []


def tired(state: Count) -> Count:
    return state


def weary(state: Tally) -> Tally:
    return state


def waiting(version: int) -> Machine[Any, Any, Any]:
    """A machine that holds what comes too early, and refuses it later."""
    made = Machine(
        "waiting",
        states=Count | Tally,
        events=Add | Say,
        initial=Count(),
        unhandled="defer",
        version=version,
        since=1,
    )

    @made.on
    def opened(state: Count, _event: Say) -> Tally:
        return Tally(state.n)

    @made.on
    def refuse(state: Tally, event: Add) -> Tally:
        raise Rejected(f"too late for {event.n} in {state.unit}")

    return made


def test_a_held_event_of_an_older_version_is_refused_by_the_newer_one() -> None:
    """It is logged with the version that it was sent to; who refused it is the machine as it was then."""
    one, two = waiting(1), waiting(2)
    before = MemoryStore()
    before.start(one, "a")
    before.advance(one, "a", Add(3))
    after = before.reopen(two)
    after.advance(two, "a", Say("open"))
    log = after.log(two, "a")

    assert [(each.seq, each.name, each.version, each.refused) for each in log.entries] == [
        (0, "Count", 1, False), (1, "Say", 2, False), (2, "Add", 1, True),
    ]  # fmt: skip
    for machines in ([one, two], [two]):
        assert fsck(log, Registry(machines)).findings == []
        assert upgraded(log, Registry(machines)).difference is None
    assert fsck(log, Registry([two])) == Report([], 2, (1,))
