"""What every store does: start, advance, get, history."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from examples.door import SEVEN, Close, Locked, NotifyIRC, Opened, Unlock, door
from fsm_core import Failed, Key, MachineStatus, Rejected, Timeout, UnhandledEvent, replay
from fsm_core.errors import (
    DedupMismatch,
    DefinitionError,
    InvalidKey,
    InvalidPayload,
    MachineNotFound,
    PayloadTooLarge,
    Refused,
    UnknownType,
    WrongSeq,
)
from tests.store.machines import (
    Charge,
    Charged,
    Charging,
    Drop,
    Dropped,
    New,
    Note,
    NothingToPay,
    Paid,
    Pay,
    orders,
)
from tests.store.world import World


def test_an_inserted_door_is_open(world: World) -> None:
    """Source: finito, test_insert_machine."""
    started = world.store.start(door, "front")

    assert world.store.get(door, "front").state == Opened()
    assert (started.key, started.seq, started.status, started.duplicate) == ("front", 0, "live", False)


def test_seven_events_lock_the_door(world: World) -> None:
    """Source: finito, test_advance; the answers on the way are those of the pure fold."""
    world.store.start(door, "front")
    seen = [world.store.advance(door, "front", event) for event in SEVEN]

    assert world.store.get(door, "front").state == Locked(code=4567, attempts=2)
    assert [s.seq for s in seen] == [1, 2, 3, 4, 5, 6, 7]
    assert [s.state for s in seen] == [replay(door, Opened(), SEVEN[: n + 1]).state for n in range(7)]


def test_what_start_and_advance_answer_is_what_get_answers(world: World) -> None:
    """One snapshot of one machine, down to its times."""
    started = world.store.start(orders, 7, New(42))
    assert world.store.get(orders, 7) == started

    advanced = world.store.advance(orders, 7, Pay())
    assert world.store.get(orders, "7") == advanced

    ended = world.store.advance(orders, 7, Charged("r1"))
    assert world.store.get(orders, 7) == ended
    assert (ended.created_at, ended.updated_at) == (started.created_at, ended.ended_at)


def test_starting_twice_starts_once(world: World) -> None:
    """The second start changes nothing and answers the machine that is there."""
    first = world.store.start(orders, 7, New(42))
    world.store.advance(orders, 7, Pay())
    before = world.contents()

    again = world.store.start(orders, 7, New(1))

    assert again.duplicate
    assert (again.id, again.seq) == (first.id, 1)
    assert again.state == world.store.get(orders, 7).state
    assert world.contents() == before


def test_a_missing_key_is_allocated(world: World) -> None:
    """A random UUID as text, another one each time, and it is the machine's key from then on."""
    one, two = world.store.start(orders, state=New(1)), world.store.start(orders, state=New(2))

    assert one.key != two.key
    assert UUID(one.key).version == 4
    assert world.store.get(orders, two.key).state == New(2)


def test_the_initial_state_is_an_argument_and_the_declared_one_a_default(world: World) -> None:
    """Without either there is nothing to start from."""
    assert world.store.start(door, "a").state == Opened()
    assert world.store.start(door, "b", Locked(1, 2)).state == Locked(1, 2)
    with pytest.raises(DefinitionError, match=r"machine 'orders' has no initial=; start it with a state"):
        world.store.start(orders, 1)
    with pytest.raises(UnknownType, match="Close is no state of machine 'door'"):
        world.store.start(door, "c", Close())


@pytest.mark.parametrize("key", ["front", 7, -1, UUID(int=7), "ü/😀 42"])
def test_a_machine_is_found_by_its_key_or_the_text_of_it(world: World, key: Key) -> None:
    """Strings, integers and UUIDs, unique per machine name."""
    world.store.start(orders, key, New(1))

    assert world.store.start(door, key).duplicate is False
    assert world.store.get(orders, str(key)).key == str(key)
    assert world.store.advance(orders, key, Note()).seq == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a\0b", "\ud800", True, 1.5, None])
def test_what_is_no_key_is_refused_by_every_verb(world: World, key: Any) -> None:
    """Before any statement."""
    for call in (world.store.get, world.store.history, world.store.cancel, world.store.record):
        with pytest.raises(InvalidKey):
            call(orders, key)
    with pytest.raises(InvalidKey):
        world.store.advance(orders, key, Pay())
    if key is not None:
        with pytest.raises(InvalidKey):
            world.store.start(orders, key, New(1))


def test_a_missing_machine_is_named(world: World) -> None:
    """Every verb that needs one raises MachineNotFound with its name and key."""
    world.store.start(orders, 7, New(1))
    calls = (
        lambda: world.store.get(orders, 8),
        lambda: world.store.advance(orders, 8, Pay()),
        lambda: world.store.history(orders, 8),
        lambda: world.store.record("orders", 8),
        lambda: world.store.cancel(orders, 8),
    )
    for call in calls:
        with pytest.raises(MachineNotFound, match=r"there is no machine orders/8$") as caught:
            call()
        assert (caught.value.name, caught.value.key) == ("orders", "8")


def test_the_context_is_the_recorded_one(world: World) -> None:
    """`ctx.now` is the event's time in the log, `ctx.uuid()` the one that a replay draws."""
    world.store.start(orders, 7, New(42))
    state = world.store.advance(orders, 7, Pay()).state

    entry = world.store.history(orders, 7)[1]
    assert isinstance(state, Charging)
    assert state.at == entry.occurred_at
    assert state.at.utcoffset() == timedelta(0)
    assert state.id.version == 4
    assert world.store.get(orders, 7).updated_at == entry.occurred_at


def test_history_has_every_event_with_its_actions(world: World) -> None:
    """The door's story: its birth and seven events, eight actions, in order."""
    world.store.start(door, "front")
    for event in SEVEN:
        world.store.advance(door, "front", event)

    log = world.store.history(door, "front")

    assert [(e.seq, e.name, e.outcome, e.source) for e in log] == [
        (0, "Opened", "applied", "call"),
        (1, "Close", "applied", "call"),
        (2, "Open", "applied", "call"),
        (3, "Close", "applied", "call"),
        (4, "Lock", "applied", "call"),
        (5, "Unlock", "applied", "call"),
        (6, "Lock", "applied", "call"),
        (7, "Unlock", "applied", "call"),
    ]
    assert log[4].payload == {"code": 1234}
    emitted = [NotifyIRC(a.payload["message"]) for e in log for a in e.actions]
    assert emitted == [NotifyIRC("door was opened"), *replay(door, Opened(), SEVEN).actions]
    assert [e.occurred_at for e in log] == sorted(e.occurred_at for e in log)


def test_an_action_row_says_where_it_goes(world: World) -> None:
    """Queue, tracking, status and an id derived from machine, event and index."""
    started = world.store.start(orders, 7, New(42))
    world.store.advance(orders, 7, Note())
    world.store.advance(orders, 7, Pay("visa"))
    world.store.advance(orders, 7, Charged("r1"))

    rows = [a for e in world.store.history(orders, 7) for a in e.actions]

    assert [str(a.id) for a in rows] == [f"{started.id}.{n}" for n in ("1.0", "1.1", "2.0", "3.0")]
    assert [(a.name, a.queue, a.tracked, a.status) for a in rows] == [
        ("Charge", "money", True, "pending"),
        ("Charge", "money", True, "pending"),
        ("Charge", "money", True, "blocked"),
        ("Tell", "default", False, "pending"),
    ]
    assert world.store.action(rows[2].id).payload == {"card": "visa", "amount": 42}
    assert {(a.machine, a.key, a.attempt, a.attempts) for a in rows} == {("orders", "7", 0, ())}


def test_an_ignored_event_is_in_the_log(world: World) -> None:
    """Under unhandled="ignore" it takes a seq and changes nothing else."""
    world.store.start(door, "front")
    snapshot = world.store.advance(door, "front", Unlock(1))

    assert (snapshot.seq, snapshot.state) == (1, Opened())
    entry = world.store.history(door, "front")[1]
    assert (entry.name, entry.payload, entry.outcome, entry.actions) == ("Unlock", {"code": 1}, "ignored", ())


REFUSALS = {
    "rejected": (NothingToPay, lambda s: s.advance(orders, 7, Pay())),
    "unhandled": (UnhandledEvent, lambda s: s.advance(orders, 7, Charged("r"))),
    "foreign": (UnknownType, lambda s: s.advance(orders, 7, Close())),
    "failed": (UnknownType, lambda s: s.advance(orders, 7, Failed(Charge("c", 1), "no", 1))),
    "failed signal": (UnknownType, lambda s: s.signal(orders, 7, Failed(Charge("c", 1), "no", 1))),
    "failed among many": (
        UnknownType,
        lambda s: s.advance_many(orders, [(7, Failed(Charge("c", 1), "no", 1))]),
    ),
    "timeout": (UnknownType, lambda s: s.advance(orders, 7, Timeout("New"))),
    "timeout signal": (UnknownType, lambda s: s.signal(orders, 7, Timeout("New"))),
    "timeout at the start": (UnknownType, lambda s: s.signal_or_start(orders, 7, Timeout("New"), New(0))),
    "wrong seq": (WrongSeq, lambda s: s.advance(orders, 7, Note(), expected_seq=0)),
    "too large": (PayloadTooLarge, lambda s: s.advance(orders, 7, Note("x" * 70_000))),
    "nul": (InvalidPayload, lambda s: s.advance(orders, 7, Note("\0"))),
    "wrong shape": (InvalidPayload, lambda s: s.advance(orders, 7, Charged(3))),  # type: ignore[arg-type]
    "dedup key": (InvalidKey, lambda s: s.advance(orders, 7, Note(), dedup_key="")),
    "dedup type": (InvalidKey, lambda s: s.advance(orders, 7, Note(), dedup_key=7)),
    "mismatch": (DedupMismatch, lambda s: s.advance(orders, 7, Note("other"), dedup_key="evt-1")),
    "start too large": (PayloadTooLarge, lambda s: s.start(orders, 8, Paid("x" * 70_000))),
    "start wrong shape": (InvalidPayload, lambda s: s.start(orders, 8, New("many"))),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", sorted(REFUSALS))
def test_a_refusal_changes_nothing_at_all(world: World, case: str) -> None:
    """Not a row of any table, whatever the reason."""
    error, call = REFUSALS[case]
    world.store.start(orders, 7, New(0))
    world.store.advance(orders, 7, Note(), dedup_key="evt-1")
    before = world.contents()

    with pytest.raises(error) as caught:
        call(world.store)

    assert isinstance(caught.value, Refused)
    assert world.contents() == before


def test_a_rejection_arrives_with_its_reason(world: World) -> None:
    """As the transition raised it."""
    world.store.start(orders, 7, New(0))
    with pytest.raises(Rejected) as caught:
        world.store.advance(orders, 7, Pay())

    assert caught.value.reason == "nothing to pay"


def test_expected_seq_means_one_state(world: World) -> None:
    """The event is applied at that seq, refused at any other, and the error has both."""
    world.store.start(orders, 7, New(1))

    assert world.store.advance(orders, 7, Note(), expected_seq=0).seq == 1
    with pytest.raises(WrongSeq) as caught:
        world.store.advance(orders, 7, Note(), expected_seq=0)
    assert (caught.value.expected, caught.value.actual) == (0, 1)


def test_a_final_state_ends_the_machine(world: World) -> None:
    """It is done, it has an end, and a later event is an unhandled one."""
    world.store.start(orders, 7, New(1))
    ended = world.store.advance(orders, 7, Drop())

    assert (ended.state, ended.status) == (Dropped("by hand"), MachineStatus.DONE)
    assert ended.ended_at == ended.updated_at
    before = world.contents()
    with pytest.raises(UnhandledEvent, match="no edge for Pay in state Dropped"):
        world.store.advance(orders, 7, Pay())
    assert world.contents() == before


def test_a_machine_may_begin_at_its_end(world: World) -> None:
    """Starting in a final state is a machine that is done."""
    started = world.store.start(orders, 7, Dropped("at once"))

    assert (started.status, started.ended_at) == (MachineStatus.DONE, started.created_at)
    assert world.store.get(orders, 7) == started
