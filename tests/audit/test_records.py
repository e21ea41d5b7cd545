"""`fsck`: a sound record has no findings, and each thing that can be wrong with one is found, once, where it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from examples.door import SEVEN, door
from fsm_core import ActionStatus, After, Cancel, Machine, MachineStatus, To
from fsm_core.audit import Base, Code, Log, fsck, state_at
from fsm_core.memory import MemoryStore
from fsm_core.registry import AnyMachine, Registry
from tests.audit.fetching import Go, Got, Nag, Over, Stop, build, effects, fetching
from tests.store.machines import Manned, Open, Retire, Serve, desk

HOUR = timedelta(hours=1)


def lived(*events: object, machine: AnyMachine = fetching, key: str = "a") -> Log:
    """The record of a machine after those events, one minute apart, from outside."""
    store = MemoryStore()
    store.start(machine, key)
    for event in events:
        store.clock.advance(60)
        store.advance(machine, key, event)
    return store.log(machine, key)


def found(log: Log, *machines: AnyMachine) -> list[tuple[Code, int | None]]:
    """What is found in a record, on this code."""
    return [
        (each.code, each.seq) for each in fsck(log, Registry(machines or (fetching, door, desk))).findings
    ]


def said(log: Log, *machines: AnyMachine) -> str:
    """What the only finding says."""
    (finding,) = fsck(log, Registry(machines or (fetching,))).findings
    return finding.message


def state(log: Log, **columns: Any) -> Log:
    """The record with other columns in the machine's row."""
    return replace(log, seen=log.seen._replace(**columns))


def entry(log: Log, seq: int, **columns: Any) -> Log:
    """The record with other columns in one event."""
    changed = [each._replace(**columns) if each.seq == seq else each for each in log.entries]
    return replace(log, entries=tuple(changed))


def row(log: Log, of: str, /, **columns: Any) -> Log:
    """The record with other columns in the rows of that action."""
    changed = [each._replace(**columns) if each.name == of else each for each in log.rows]
    return replace(log, rows=tuple(changed))


def without(log: Log, name: str) -> Log:
    """The record without the rows of that action."""
    return replace(log, rows=tuple(each for each in log.rows if each.name != name))


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


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"payload": '{"name": "x", "price": 2}'}, '1.0: Fetch {"name":"x","price":1.0} was emitted, the row is Fetch {"name":"x","price":2}'),
        ({"payload": '{"name": 3}'}, '1.0: the row Fetch {"name":3} cannot be read: action Fetch does not fit Fetch'),
        ({"name": "Tell", "payload": '{"text": ""}'}, "1.0: Fetch"),
        ({"tracked": False}, "1.0: Fetch: its tracked is False, not True"),
        ({"queue": "slow", "priority": 9}, "1.0: Fetch: its queue is 'slow', not 'fetch', its priority is 9, not 3"),
        ({"lane": "key:other"}, "1.0: Fetch: its lane is 'key:other', not 'key:lane'"),
        ({"limit_name": "api"}, "1.0: Fetch: its limit_name is 'api', not None"),
    ],
)  # fmt: skip
def test_a_row_of_the_outbox_that_is_not_as_emitted_is_found(columns: dict[str, Any], message: str) -> None:
    """What it asks for, and where it was routed."""
    machine = build(restores=False)
    name = "lane:x" if "lane" in columns else "x"

    assert said(row(lived(Go(name), machine=machine), "Fetch", **columns), machine).startswith(message)


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("After", {"timer": "other"}, "1.1: After: its timer is 'other', not 'nag'"),
        ("After", {"payload": '{"event": "Stop", "payload": {}, "name": "nag"}'}, "1.1: After {"),
        (
            "After",
            {"outcome": '{"to": "completed", "events": [], "source": "timer"}'},
            "1.1: After: its outcome is",
        ),
        ("Timeout", {"payload": '{"state": "Idle"}'}, '1.3: Timeout {"state":"Busy"} was emitted'),
    ],
)
def test_a_timer_that_is_not_as_set_is_found(name: str, columns: dict[str, Any], message: str) -> None:
    """Those of the machine's own, and those of its states: their name, and what they bring."""
    assert said(row(lived(Go("x")), name, **columns)).startswith(message)


def test_a_missing_row_is_found() -> None:
    """Of every event that emitted it; a timer's, too."""
    log = lived(Go("x"), Nag())

    assert found(without(log, "Tell")) == [(Code.ACTION, 1), (Code.ACTION, 2)]
    assert found(without(log, "After")) == [(Code.ACTION, 1)]
    assert (
        said(without(log, "Timeout"))
        == '1.3: the timer Timeout {"state":"Busy"} was set, and there is no such row'
    )


@dataclass(frozen=True)
class Up:
    pass


@dataclass(frozen=True)
class Down:
    pass


@dataclass(frozen=True)
class Lie:
    pass


@dataclass(frozen=True)
class Rise:
    pass


def sleeper() -> AnyMachine:
    """A machine that holds what comes too early, and sets timers when it lies down."""
    made = Machine(
        "sleeper",
        states=Up | Down | Over,
        events=Lie | Rise | Stop,
        initial=Up(),
        final=Over,
        unhandled="defer",
    )

    @made.on
    def lie(_state: Up, _event: Lie) -> To[Down, After]:
        return Down(), [After(60, Rise(), name="alarm"), After(600, Rise())]

    @made.on
    def rise(_state: Down, _event: Rise) -> To[Up, Cancel]:
        return Up(), [Cancel("alarm")]

    @made.on
    def stop(_state: Down, _event: Stop) -> Over:
        return Over()

    @made.timeout(after=3600)
    def oversleeps(_state: Down) -> Up:
        return Up()

    return made


@pytest.mark.parametrize(("event", "written"), [(Rise(), ["After"]), (Stop(), [])])
def test_a_timer_that_ends_in_the_unit_that_set_it_was_never_a_row(event: object, written: list[str]) -> None:
    """Cancelled by a held event, left with its state, or ended with the machine. One that has no such end is missed."""
    machine = sleeper()
    log = lived(event, Lie(), machine=machine)
    assert [row.name for row in log.rows] == written
    assert found(log, machine) == []

    held = entry(log, 2, occurred_at=log.entries[2].occurred_at + HOUR)
    held = state(held, ended_at=held.seen.ended_at and held.seen.ended_at + HOUR)
    missing = [(Code.ACTION, 1)] * (3 - len(written))
    assert found(held, machine) == missing


def test_what_a_cancelled_machine_leaves_is_of_its_last_event() -> None:
    """The row that tells its parent; one elsewhere was emitted by nobody."""
    store = MemoryStore()
    store.start(fetching, "a")
    store.advance(fetching, "a", Go("x"))
    store.cancel(fetching, "a")
    log = store.log(fetching, "a")
    told = log.rows[0]._replace(name="ChildEnded", idx=8)

    assert found(replace(log, rows=(*log.rows, told))) == []
    assert found(replace(log, rows=(*log.rows, told._replace(seq=0)))) == [(Code.ACTION, 0)]
    assert found(replace(log, rows=(*log.rows, told._replace(name="Fetch")))) == [(Code.ACTION, 1)]


def test_a_row_that_no_event_emitted_is_found() -> None:
    """At an event that is there, and beyond the last."""
    log = lived(Go("x"), machine=build(restores=False))
    for seq, idx in ((1, 7), (4, 0)):
        extra = log.rows[0]._replace(seq=seq, idx=idx)

        assert found(replace(log, rows=(*log.rows, extra)), build(restores=False)) == [(Code.ACTION, seq)]


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
