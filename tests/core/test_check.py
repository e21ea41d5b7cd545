"""`check` finds what is declared and can never be right, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Never

import pytest

from fsm_core import Effects, Failed, Machine, Rejected, To, Untracked
from fsm_core.check import Code, Finding, check
from fsm_core.registry import AnyMachine
from tests.core.worker import Busy, Foreign, Go, Idle, Over, Ring, State, Stop, Tell

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py") if "= Machine(" in path.read_text())


def declared(**options: object) -> AnyMachine:
    """A machine with nothing to find: Idle, Busy, Over, and nothing lasts. What `options` change is what is found."""
    given = {"states": State, "events": Go | Stop, "actions": Untracked[Tell], "final": Over, **options}
    m: AnyMachine = Machine("m", **given)  # type: ignore[arg-type]

    @m.on
    def go(state: Idle, event: Go) -> To[Busy, Tell]:
        return Busy(), [Tell()]

    @m.on
    def stop(state: Busy, event: Stop) -> Over:
        return Over()

    @m.timeout(after=60)
    def late(state: Idle | Busy) -> Over:
        return Over()

    return m


def found(machine: AnyMachine, effects: "Effects[None] | None" = None) -> list[tuple[Code, str]]:
    return [(finding.code, finding.place) for finding in check(machine, effects)]


def test_a_sound_machine_has_no_findings() -> None:
    assert check(declared()) == ()
    assert check(declared(initial=Idle())) == ()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_finding_on_an_example_is_accepted_with_a_reason(name: str) -> None:
    example = import_module(f"examples.{name}")
    machines = [value for value in vars(example).values() if isinstance(value, Machine)]

    assert machines
    for machine in machines:
        assert [f for f in check(machine, effects_of(name, machine)) if f.accepted is None] == []


def effects_of(name: str, machine: AnyMachine) -> "Effects[Any] | None":
    """The effects that stand in the example, or in the file beside it."""
    for module in (name, f"{name}_effects"):
        if (FOLDER / f"{module}.py").exists():
            known = getattr(import_module(f"examples.{module}"), "effects", None)
            if known is not None and known.machine is machine:
                return known
    return None


def test_a_state_to_which_nothing_leads_from_the_initial_one_is_found() -> None:
    m = declared(initial=Busy())

    assert check(m) == (
        Finding(Code.UNREACHABLE, "m: state Idle", "no edge leads to it from the start (Busy)", "Idle"),
    )


def test_without_an_initial_state_each_state_that_nothing_leads_to_is_a_start() -> None:
    m = declared(states=State | Foreign)

    @m.on
    def back(state: Foreign, event: Go) -> Busy:
        return Busy()

    assert found(m) == [(Code.WAITS_FOR_EVER, "m: state Foreign")]


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

    assert Code.UNREACHABLE not in dict(found(m))


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
            "Over",
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
        Finding(Code.UNHANDLED_EVENT, "m: event Foreign", "no state has an edge for it", "Foreign"),
    )


def test_an_event_that_is_always_rejected_is_taken_by_nobody() -> None:
    m = declared(events=Go | Stop | Foreign)

    @m.otherwise
    def no(state: State, event: Go | Stop | Foreign) -> Never:
        raise Rejected

    assert check(m) == (
        Finding(
            Code.UNHANDLED_EVENT, "m: event Foreign", "every edge that takes it always rejects", "Foreign"
        ),
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


def test_an_action_of_a_timeout_may_fail_unheard() -> None:
    m = declared(actions=Ring | Untracked[Tell], states=State | Foreign, initial=Foreign())

    @m.timeout(after=1)
    def begin(state: Foreign) -> To[Idle, Ring]:
        return Idle(), [Ring()]

    assert found(m) == [(Code.UNHANDLED_FAILURE, "m: action Ring")]  # and by its timeout, Idle can be reached


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
    assert check(m, some) == (Finding(Code.NO_EFFECT, "m: action Ring", "no effect runs it", "Ring"),)

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


def accepting(accept: Mapping[str, str]) -> tuple[Finding, ...]:
    """What is found where Over is a dead end, and nobody takes Foreign."""
    m = declared(final=None, events=Go | Stop | Foreign)
    m.accepted = dict(accept)
    return check(m)


def test_a_finding_is_accepted_with_the_reason_given_beside_the_machine() -> None:
    dead_end, event = accepting({"dead-end:Over": "it rests there"})

    assert (dead_end.code, dead_end.accepted) == (Code.DEAD_END, "it rests there")
    assert (event.code, event.accepted) == (Code.UNHANDLED_EVENT, None)


def test_a_code_alone_accepts_all_of_its_findings_and_a_place_comes_first() -> None:
    dead_end, event = accepting(
        {"dead-end": "all of them", "unhandled-event": "later", "dead-end:Over": "this one"}
    )

    assert (dead_end.accepted, event.accepted) == ("this one", "later")


@pytest.mark.parametrize(
    ("accept", "said"),
    [
        ({"dead-end:Idle": "why"}, "nothing is found that it would accept; remove it"),
        ({"unreachable-state": "why"}, "nothing is found that it would accept; remove it"),
        ({"dead-end:over": "why"}, "nothing is found that it would accept; remove it"),
        (
            {"dead_end": "why"},
            "there is no such code; the codes are unreachable-state, dead-end, waits-for-ever,",
        ),
        ({"stale-acceptance": "why"}, "there is no such code"),
        ({"dead-end:Over": " "}, "it gives no reason"),
    ],
)
def test_an_acceptance_that_accepts_nothing_is_itself_found(accept: dict[str, str], said: str) -> None:
    *_, last = accepting(accept)

    assert (last.code, last.place, last.accepted) == (
        Code.STALE_ACCEPTANCE,
        f"m: accept {next(iter(accept))!r}",
        None,
    )
    assert last.message.startswith(said)


def test_what_only_the_effects_can_tell_is_not_stale_without_them() -> None:
    m = ringing(events=Go | Stop | Failed[Ring])
    _take_failure(m, Busy)
    some: Effects[None] = Effects(m)
    m.accepted = {"no-effect:Ring": "another process runs it", "waits-for-ever": "never"}

    assert check(m) == ()
    accepted, stale = check(m, some)
    assert (accepted.code, accepted.accepted) == (Code.NO_EFFECT, "another process runs it")
    assert (stale.code, stale.subject) == (Code.STALE_ACCEPTANCE, "waits-for-ever")


@pytest.mark.parametrize("unhandled", ["reject", "ignore", "defer"])
def test_what_is_done_with_an_unhandled_event_is_no_excuse(unhandled: str) -> None:
    """An event that is ignored or held in every state is as dead as one that is refused."""
    m = declared(unhandled=unhandled, final=None, events=Go | Stop | Foreign)

    assert found(m) == [(Code.DEAD_END, "m: state Over"), (Code.UNHANDLED_EVENT, "m: event Foreign")]


def _take_failure(machine: AnyMachine, at: type) -> None:
    def rung(state, event):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - annotated below
        return state

    rung.__annotations__ = {"state": at, "event": Failed[Ring], "return": at}
    machine.otherwise(rung)
