"""`fsck`: a sound record has no findings, and each thing that can be wrong with one is found, once, where it is."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from examples.door import SEVEN, door
from fsm_core import ActionStatus, MachineStatus
from fsm_core.audit import Base, Code, Log, fsck, state_at
from fsm_core.memory import MemoryStore
from fsm_core.registry import AnyMachine, Registry
from tests.audit.fetching import Go, Got, Nag, Over, Stop, build, effects, fetching
from tests.audit.logs import HOUR, entry, found, lived, row, said, state
from tests.store.machines import Manned, Open, Retire, Serve, desk


@pytest.mark.parametrize(
    ("machine", "events"),
    [
        (fetching, []),
        (fetching, [Go("x"), Go("lane:y", 2.5), Nag(), Go("z")]),
        (fetching, [Stop()]),
        (door, SEVEN),
        (desk, [Serve("rude"), Serve("ann"), Open(), Serve("bob"), Retire()]),
    ],
    ids=["born", "busy", "ended", "ignoring", "holding"],
)
def test_a_sound_record_has_no_findings(machine: AnyMachine, events: Sequence[object]) -> None:
    """Of machines that reject, ignore and hold, with timers, lanes and randomness."""
    log = lived(*events, machine=machine)

    report = fsck(log, Registry([machine]))

    assert report.findings == []
    assert (report.events, report.unknown) == (len(log.entries), ())


def test_a_life_of_effects_retries_and_timers_is_sound_at_every_step() -> None:
    """Results, timers that fire, are set again and end within the unit that set them; all in one instant, too."""
    ran: list[str] = []
    store = MemoryStore(effects(fetching, ran))
    store.start(fetching, "a")
    for event in (Go("x"), Go("lane:y"), Go("lane:z", 3), Nag()):
        store.advance(fetching, "a", event)
        assert found(store.log(fetching, "a")) == []
    while store.drain(limit=1, jump=True).ran:
        assert found(store.log(fetching, "a")) == []
    assert "fetch lane:z" in ran
    assert store.get(fetching, "a").state.total == 5.0


def test_a_state_that_the_log_does_not_make_is_found() -> None:
    """A changed value, another class, JSON that no class fits."""
    log = lived(Go("x"))

    assert found(state(log, state=log.seen.state.replace("1.0", "2.0"))) == [
        (Code.STATE, 1),
        (Code.RESTORE, 1),
        (Code.RESTORE, 1),
    ]
    assert (Code.STATE, 1) in found(
        state(log, state_name="Over", state='{"total": 0}', status=MachineStatus.LIVE)
    )
    assert (Code.STATE, 1) in found(state(log, state='{"items": 3}'))


def test_equal_means_decoded_and_encoded_again() -> None:
    """A jsonb reorders keys and rewrites numbers: a float that is whole comes back without its fraction."""
    log = lived(Go("x", 1e16))
    rewritten = '{"total": 0, "items": [{"price": 10000000000000000, "name": "x"}]}'
    payload = '{"price": 10000000000000000, "name": "x"}'

    assert found(row(state(log, state=rewritten), "Fetch", payload=payload)) == []


def test_a_field_with_a_default_may_be_missing() -> None:
    """What was written before the class had it, and what is decided with it, are equal."""
    log = lived(Go("x"))
    shorter = '{"items": [{"name": "x"}]}'

    assert found(state(log, state=shorter)) == []


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"seq": 5}, Code.GAP),
        ({"version": 2}, Code.VERSION),
        ({"status": MachineStatus.DONE}, Code.STATUS),
        ({"inbox": 1}, Code.INBOX),
    ],
)
def test_a_row_that_does_not_fit_its_log_is_found(columns: dict[str, Any], code: Code) -> None:
    log = lived(Go("x"))

    assert code in dict(found(state(log, **columns), fetching, build(version=2)))


def test_the_time_of_the_end_is_that_of_the_last_event() -> None:
    log = lived(Stop())
    assert log.seen.ended_at is not None

    assert found(state(log, ended_at=log.seen.ended_at + HOUR)) == [(Code.STATUS, 1)]
    assert found(state(log, status=MachineStatus.LIVE, ended_at=None)) == [(Code.STATUS, 1)]


def test_a_machine_cancelled_from_outside_is_sound() -> None:
    """Its end is no event, and its state may wait for what was cancelled with it."""
    store = MemoryStore()
    store.start(fetching, "a")
    store.advance(fetching, "a", Go("x"))
    store.cancel(fetching, "a")

    assert found(store.log(fetching, "a")) == []


@pytest.mark.parametrize(
    ("change", "findings"),
    [
        (lambda log: replace(log, entries=log.entries[1:]), [(Code.GAP, 0)]),
        (lambda log: replace(log, entries=(log.entries[0], log.entries[2])), [(Code.GAP, 1)]),
        (lambda log: replace(log, entries=log.entries[:-1]), [(Code.GAP, 1)]),
        (lambda log: replace(log, entries=()), [(Code.GAP, 0)]),
    ],
    ids=["no birth", "a hole", "no end", "nothing"],
)
def test_missing_events_are_found(change: Callable[[Log], Log], findings: list[tuple[Code, int]]) -> None:
    """By the number of the first; what cannot be replayed for it is not a finding of its own."""
    log = change(lived(Go("x"), Nag()))

    assert found(log)[:1] == findings
    assert Code.REPLAY not in dict(found(log))


def test_an_event_that_does_not_replay_is_found_with_its_reason() -> None:
    """It is refused now, its type is gone, its outcome is another one; the rest is not judged."""
    log = lived(Go("x"), Go("y"), Nag())

    assert found(log, build(refuses="y")) == [(Code.REPLAY, 2)]
    assert said(log, build(refuses="y")) == "Go: Rejected: no y today"
    assert said(entry(log, 3, name="Gone")).startswith("Gone: UnknownType")
    held = entry(lived(Open(), machine=desk), 1, name="Serve", payload='{"name": "ann"}')
    assert said(held, desk) == "Serve: no edge takes it; it would be held"
    assert said(entry(log, 3, outcome="ignored")) == "Nag: it is recorded as ignored, and would be applied"


def test_a_refused_event_must_be_refused_again() -> None:
    """One that was held, and refused later, changed nothing; if it would now, the record is another one's."""
    log = lived(Serve("rude"), Open(), machine=desk)
    assert [each.refused for each in log.entries] == [False, False, True]
    assert found(log) == []

    assert found(entry(log, 2, payload='{"name": "ann"}')) == [(Code.REPLAY, 2)]
    assert (
        said(entry(log, 2, payload='{"name": "ann"}'), desk)
        == "Serve: it is recorded as ignored, and would be applied"
    )
    assert isinstance(Manned(), desk.states["Manned"].cls)


def test_an_invariant_is_asked_of_every_state_on_the_way() -> None:
    """It is found where it begins to be broken, and once for each time."""
    log = lived(Go("x"), Go("y"), Nag())
    strict = build(most=1)

    assert found(log, strict) == [(Code.INVARIANT, 2)]
    assert said(log, strict).startswith("Busy: ")


def test_restore_must_be_the_open_rows() -> None:
    """As a multiset of tracked own actions: timers are apart, and so is what has finished."""
    log = lived(Go("x"), Go("x"), Go("y"))
    assert found(log) == []

    ended = row(log, "Fetch", status=ActionStatus.COMPLETED)

    assert [each.message for each in fsck(ended, Registry([fetching])).findings] == [
        'Fetch {"name":"x","price":1.0} is restored, and not open',
        'Fetch {"name":"x","price":1.0} is restored, and not open',
        'Fetch {"name":"y","price":1.0} is restored, and not open',
    ]
    got = lived(Go("x"), Got("x"))  # from outside: the row that it answers is open still
    assert said(got) == 'Fetch {"name":"x","price":1.0} is open, and not restored'


def test_versions_that_nobody_knows_are_named_and_not_guessed_at() -> None:
    """Nothing is replayed; what needs no replay is checked all the same."""
    log = lived(Go("x"))

    report = fsck(log, Registry([build(version=2)]))
    assert (report.findings, report.events, report.unknown) == ([], 0, (1,))
    assert found(state(log, inbox=3), build(version=2)) == [(Code.INBOX, None)]


def test_a_pruned_log_is_checked_from_its_snapshot() -> None:
    """And the snapshot itself, where its own event is still there."""
    log = lived(Go("x"), Go("y"), Nag())
    at_two = lived(Go("x"), Go("y")).seen
    kept = Base(2, 1, at_two.state_name, at_two.state)
    pruned = replace(log, entries=log.entries[3:], snapshots=(kept,))

    assert found(pruned) == []
    assert fsck(pruned, Registry([fetching])).events == 1
    assert (Code.STATE, 3) in found(replace(pruned, snapshots=(kept._replace(state='{"items": []}'),)))
    assert found(replace(log, snapshots=(kept,))) == []
    assert found(replace(log, snapshots=(kept._replace(state='{"items": []}'),))) == [(Code.STATE, 2)]
    assert found(replace(pruned, snapshots=())) == [(Code.GAP, 0)]


def test_a_pruned_log_of_a_machine_that_has_ended_is_sound() -> None:
    """When it ended is not known any more; that it has is."""
    log = lived(Go("x"), Stop())
    kept = Base(2, 1, log.seen.state_name, log.seen.state)
    pruned = replace(log, entries=log.entries[2:], snapshots=(kept,))

    assert found(pruned) == found(replace(pruned, entries=())) == []
    assert found(state(pruned, status=MachineStatus.LIVE, ended_at=None)) == [(Code.STATUS, 2)]
    then = state_at(pruned, 2, Registry([fetching]).machine)
    assert (then.state, then.status) == (Over(), "done")
    assert (then.updated_at, then.ended_at) == (log.entries[2].occurred_at, log.entries[2].occurred_at)
