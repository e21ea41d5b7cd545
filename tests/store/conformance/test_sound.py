"""What a store writes is what its log says: `fsck` finds nothing, whatever the machines did."""

from collections.abc import Sequence

import pytest

from examples.door import SEVEN, door
from fsm_core.audit import fsck
from fsm_core.registry import AnyMachine, Registry
from tests.audit.families import Bear, Clear, Tell, child, parent
from tests.audit.fetching import Go, Nag, Stop, fetching
from tests.store.conformance.conftest import MakeWorld
from tests.store.machines import Close, Manned, Open, Retire, Serve, desk

LIVES: dict[str, tuple[AnyMachine, Sequence[object]]] = {
    "ignoring": (door, SEVEN),
    "holding": (desk, [Serve("rude"), Serve("ann"), Open(), Close(), Serve("last"), Open(), Retire()]),
    "timers": (fetching, [Go("x"), Go("lane:y", 5e-324), Nag(), Go("z", 1e16), Stop()]),
    "children": (parent, [Bear(("a", "b", "")), Bear(("a", "c", "c")), Tell("b"), Clear()]),
}


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("cancelled", [False, True])
def test_the_record_of_a_life_is_sound(make_world: MakeWorld, life: str, cancelled: bool) -> None:
    """Also when it ends from outside, and tells parent and children of it."""
    machine, events = LIVES[life]
    store = make_world(machines=[child]).store
    store.start(machine, "p")
    for event in events:
        store.advance(machine, "p", event)
    if cancelled and store.get(machine, "p").ended_at is None:
        store.cancel(machine, "p")

    logs = store.logs()

    assert [finding for log in logs for finding in fsck(log, Registry([machine, child])).findings] == []
    assert len(logs) == store.count() == (5 if machine is parent else 1)


def test_held_events_are_counted(make_world: MakeWorld) -> None:
    """Those that wait, and those that have been taken since."""
    store = make_world().store
    store.start(desk, "p")
    for event in (Serve("ann"), Serve("bob"), Open(), Close(), Serve("cid")):
        store.advance(desk, "p", event)

    log = store.log(desk, "p")

    assert (log.held, log.seen.inbox) == (1, 1)
    assert store.state_at(desk, "p", 3).state == Manned(("ann", "bob"))
    assert fsck(log, Registry([desk])).findings == []
