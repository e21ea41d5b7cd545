"""`fsck` on the rows of the outbox: each must be as its event emitted it, and none may be missing or too much."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from fsm_core import After, Cancel, Machine, To
from fsm_core.audit import Code
from fsm_core.memory import MemoryStore
from fsm_core.registry import AnyMachine
from tests.audit.fetching import Go, Nag, Over, Stop, build, fetching
from tests.audit.logs import HOUR, entry, found, lived, row, said, state, without


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
