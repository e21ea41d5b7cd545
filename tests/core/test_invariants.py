"""What must hold of a state: asked by MemoryStore of every state that it is about to keep."""

from dataclasses import dataclass, replace

import pytest

from fsm_core import Effects, Machine, Spawn, To
from fsm_core.errors import DefinitionError, InvariantViolated
from fsm_core.memory import MemoryStore


@dataclass(frozen=True)
class Till:
    cents: int = 0


@dataclass(frozen=True)
class Shut:
    cents: int = 0


@dataclass(frozen=True)
class Take:
    cents: int


@dataclass(frozen=True)
class Ask:
    cents: int


@dataclass(frozen=True)
class Child:
    cents: int


@dataclass(frozen=True)
class Fetch:
    cents: int


till = Machine("till", states=Till | Shut, events=Take | Ask | Child, actions=Fetch, initial=Till())
effects = Effects(till)


@till.on
def take(state: Till, event: Take) -> Till:
    return replace(state, cents=state.cents - event.cents)


@till.on
def ask(state: Till, event: Ask) -> To[Till, Fetch]:
    return state, [Fetch(event.cents)]


@till.on
def child(state: Till, event: Child) -> To[Till, Spawn]:
    return state, [Spawn(till, "child", Till(event.cents))]


@till.invariant
def never_below_zero(state: Till | Shut) -> None:
    assert state.cents >= 0, f"{state.cents} cents"


@till.invariant
def not_rich(state: Till) -> bool:
    return state.cents < 100


@effects.act
def fetch(action: Fetch) -> Take:
    return Take(action.cents)


def test_a_state_that_breaks_one_is_an_error_and_changes_nothing() -> None:
    store = MemoryStore(effects)
    store.start(till, "a", Till(5))

    with pytest.raises(InvariantViolated) as caught:
        store.advance(till, "a", Take(6))

    assert (caught.value.machine, caught.value.state) == ("till", "Till")
    assert "never_below_zero" in caught.value.message
    assert "-1 cents" in caught.value.message
    assert store.get(till, "a").state == Till(5)
    assert len(store.history(till, "a")) == 1


def test_all_of_a_states_invariants_are_asked_and_only_those() -> None:
    store = MemoryStore()
    with pytest.raises(InvariantViolated, match=r"not_rich .* is False"):
        store.start(till, "a", Till(100))
    with pytest.raises(InvariantViolated):
        store.start(till, "a", Shut(-1))
    assert store.machines() == []
    assert store.start(till, "a", Shut(100)).state == Shut(100)


def test_a_child_is_asked_too_and_takes_the_event_with_it() -> None:
    store = MemoryStore()
    store.start(till, "a")
    with pytest.raises(InvariantViolated):
        store.advance(till, "a", Child(-1))
    assert [record.key for record in store.machines()] == ["a"]
    assert store.get(till, "a").seq == 0


def test_a_result_that_breaks_one_is_seen_by_the_test_that_drains() -> None:
    store = MemoryStore(effects)
    store.start(till, "a")
    store.advance(till, "a", Ask(1))

    with pytest.raises(InvariantViolated):
        store.drain()

    assert store.get(till, "a").state == Till(0)


def test_an_invariant_is_a_function_of_a_state() -> None:
    machine = Machine("m", states=Till, events=Take)
    with pytest.raises(DefinitionError, match="the result is None"):

        @machine.invariant
        def wrong(state: Till) -> int:
            return 1

    with pytest.raises(DefinitionError, match="no declared state"):

        @machine.invariant
        def other(state: Shut) -> None: ...
