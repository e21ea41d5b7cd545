"""`check` finds what is declared and can never be right, and nothing else."""

from dataclasses import dataclass
from typing import Never

from examples.door import door
from examples.orders import orders
from examples.orders_effects import effects
from fsm_core import Effects, Failed, Machine, Rejected, To, Untracked
from fsm_core.check import Code, Finding, check
from fsm_core.registry import AnyMachine
from tests.core.worker import Busy, Foreign, Go, Idle, Over, Ring, State, Stop, Tell


def declared(**options: object) -> AnyMachine:
    """A machine with nothing to find: Idle, Busy until it has rung, Over. What `options` change is what is found."""
    given = {"states": State, "events": Go | Stop, "actions": Untracked[Tell], "final": Over, **options}
    m: AnyMachine = Machine("m", **given)  # type: ignore[arg-type]

    @m.on
    def go(state: Idle, event: Go) -> To[Busy, Tell]:
        return Busy(), [Tell()]

    @m.on
    def stop(state: Busy, event: Stop) -> Over:
        return Over()

    return m


def found(machine: AnyMachine, effects: "Effects[None] | None" = None) -> list[tuple[Code, str]]:
    return [(finding.code, finding.place) for finding in check(machine, effects)]


def test_a_sound_machine_has_no_findings() -> None:
    assert check(declared()) == ()
    assert check(declared(initial=Idle())) == ()


def test_the_findings_of_the_examples_are_known() -> None:
    """The door never hears of a failure, on purpose; a failed refund needs a person, as the orders say themselves."""
    assert found(door) == [
        (Code.DEAD_END, "door: state Disabled"),
        (Code.UNHANDLED_FAILURE, "door: action NotifyIRC"),
        (Code.UNHANDLED_FAILURE, "door: action CallThePolice"),
    ]
    assert [(f.code, f.place) for f in check(orders, effects)] == [
        (Code.UNHANDLED_FAILURE, "orders: action Refund")
    ]


def test_a_state_to_which_nothing_leads_from_the_initial_one_is_found() -> None:
    m = declared(initial=Busy())

    assert check(m) == (
        Finding(Code.UNREACHABLE, "m: state Idle", "no edge leads to it from the start (Busy)"),
    )


def test_without_an_initial_state_each_state_that_nothing_leads_to_is_a_start() -> None:
    m = declared(states=State | Foreign)

    @m.on
    def back(state: Foreign, event: Go) -> Busy:
        return Busy()

    assert check(m) == ()


def test_without_an_initial_state_one_that_stands_alone_is_unreachable() -> None:
    places = found(declared(states=State | Foreign))

    assert places == [(Code.UNREACHABLE, "m: state Foreign"), (Code.DEAD_END, "m: state Foreign")]


def test_states_in_a_circle_may_all_be_the_first() -> None:
    m = Machine("m", states=Idle | Busy, events=Go)

    @m.on
    def turn(state: Idle, event: Go) -> Busy:
        return Busy()

    @m.on
    def back(state: Busy, event: Go) -> Idle:
        return Idle()

    assert check(m) == ()


def test_a_fallback_leads_to_its_results_but_never_out_of_a_final_state() -> None:
    m = declared(states=State | Foreign, initial=Idle(), final=Over | Foreign)

    @m.otherwise
    def lost(state: Over, event: Go) -> Over | Foreign:
        return state

    assert found(m) == [(Code.UNREACHABLE, "m: state Foreign")]


def test_a_state_without_an_edge_that_is_not_final_is_a_dead_end() -> None:
    assert check(declared(final=None)) == (
        Finding(
            Code.DEAD_END,
            "m: state Over",
            "no edge takes an event there; if the machine ends in it, name it in final=",
        ),
    )


def test_an_edge_that_always_rejects_is_no_way_out() -> None:
    m = declared(final=None)

    @m.otherwise
    def no(state: State, event: Go | Stop) -> Never:
        raise Rejected

    assert found(m) == [(Code.DEAD_END, "m: state Over")]


def test_a_state_that_only_changes_its_fields_is_no_dead_end() -> None:
    m = Machine("counter", states=Busy, events=Go)

    @m.on
    def count(state: Busy, event: Go) -> Busy:
        return Busy(state.job + 1)

    assert check(m) == ()


def test_an_event_that_no_state_takes_is_found() -> None:
    assert check(declared(events=Go | Stop | Foreign)) == (
        Finding(Code.UNHANDLED_EVENT, "m: event Foreign", "no state has an edge for it"),
    )


def test_an_event_that_is_always_rejected_is_taken_by_nobody() -> None:
    m = declared(events=Go | Stop | Foreign)

    @m.otherwise
    def no(state: State, event: Go | Stop | Foreign) -> Never:
        raise Rejected

    assert check(m) == (
        Finding(Code.UNHANDLED_EVENT, "m: event Foreign", "every edge that takes it always rejects"),
    )


def ringing(*, events: object = Go | Stop) -> AnyMachine:
    """As `declared`, and entering Busy rings, which may fail."""
    m = declared(actions=Ring | Untracked[Tell], events=events)

    @m.enter
    def ring(state: Busy) -> list[Ring]:
        return [Ring()]

    return m


def test_a_tracked_action_whose_failure_reaches_no_edge_is_found() -> None:
    (finding,) = check(ringing())

    assert (finding.code, finding.place) == (Code.UNHANDLED_FAILURE, "m: action Ring")
    assert "ring (" in finding.message
    assert finding.message.endswith("takes Failed[Ring]: a failure waits for an operator")


def test_a_failure_may_be_taken_in_any_state_that_can_follow() -> None:
    for at in (Busy, Over):
        m = ringing(events=Go | Stop | Failed[Ring])
        _take_failure(m, at)

        assert check(m) == (), at


def test_a_failure_that_is_taken_only_before_its_action_is_found() -> None:
    m = ringing(events=Go | Stop | Failed[Ring])

    @m.on
    def rung(state: Idle, event: Failed[Ring]) -> Idle:
        return state

    assert found(m) == [(Code.UNHANDLED_FAILURE, "m: action Ring")]


def test_a_failure_that_is_always_rejected_is_taken_by_nobody() -> None:
    m = ringing(events=Go | Stop | Failed[Ring])

    @m.on
    def no(state: Busy, event: Failed[Ring]) -> Never:
        raise Rejected

    assert found(m) == [
        (Code.UNHANDLED_EVENT, "m: event Failed[Ring]"), (Code.UNHANDLED_FAILURE, "m: action Ring"),
    ]  # fmt: skip


def test_each_function_whose_action_may_fail_unheard_is_named_once() -> None:
    m = declared(actions=Ring | Untracked[Tell], events=Go | Stop | Foreign)

    @m.on
    def ring(state: Idle | Busy, event: Foreign) -> To[Busy, Ring]:
        return Busy(), [Ring()]

    (finding,) = check(m)

    assert finding.message.count("ring (") == 1


def test_an_action_emitted_by_the_fallback_of_a_final_state_is_pending_there_only() -> None:
    m = declared(actions=Ring | Untracked[Tell], events=Go | Stop | Failed[Ring])
    _take_failure(m, Busy)

    @m.otherwise
    def again(state: Over, event: Go) -> To[Over | Busy, Ring]:
        return state, [Ring()]

    assert found(m) == [(Code.UNHANDLED_FAILURE, "m: action Ring")]


def test_an_edge_that_leaves_its_actions_open_is_unknown() -> None:
    m = declared(actions=Ring | Untracked[Tell], events=Go | Stop | Foreign)

    @m.on
    def something(state: Idle | Busy, event: Foreign) -> To[Busy]:
        return Busy(), [Ring()]

    (finding,) = check(m)

    assert finding.code is Code.UNKNOWN_ACTIONS
    assert finding.place.startswith("m: ")
    assert "something (" in finding.place
    assert "test_check.py:" in finding.place


def test_a_tracked_action_without_an_effect_is_found_where_effects_are_given() -> None:
    m = ringing(events=Go | Stop | Failed[Ring])
    _take_failure(m, Busy)
    some: Effects[None] = Effects(m)

    assert check(m) == ()
    assert check(m, some) == (Finding(Code.NO_EFFECT, "m: action Ring", "no effect runs it"),)

    @some.act
    def ring(action: Ring) -> None: ...

    assert check(m, some) == ()


def test_a_version_is_named() -> None:
    assert found(declared(final=None, version=2)) == [(Code.DEAD_END, "m v2: state Over")]


def test_a_machine_without_edges_is_all_dead_ends() -> None:
    @dataclass(frozen=True)
    class Only:
        pass

    assert found(Machine("m", states=Only, events=Go)) == [
        (Code.DEAD_END, "m: state Only"), (Code.UNHANDLED_EVENT, "m: event Go"),
    ]  # fmt: skip


def _take_failure(machine: AnyMachine, at: type) -> None:
    def rung(state, event):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - annotated below
        return state

    rung.__annotations__ = {"state": at, "event": Failed[Ring], "return": at}
    machine.otherwise(rung)
