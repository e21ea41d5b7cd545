"""The pure function: what it answers, and what it refuses."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from fsm_core import Context, Failed, Machine, Rejected, Route, To, UnhandledEvent, advance, begin, replay
from fsm_core.errors import TransitionError, UnknownType
from fsm_core.registry import AnyMachine

CTX = Context(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=7), "front", 3)


@dataclass(frozen=True)
class New:
    total: int = 0


@dataclass(frozen=True)
class Paid:
    at: datetime | None = None


@dataclass(frozen=True)
class Gone:
    reason: str = ""


@dataclass(frozen=True)
class Pay:
    pass


@dataclass(frozen=True)
class Refund:
    pass


@dataclass(frozen=True)
class Charge:
    amount: int = 0


@dataclass(frozen=True)
class Tell:
    text: str = ""


@dataclass(frozen=True)
class Undeclared:
    pass


def make(unhandled: Any = "reject") -> AnyMachine:
    return Machine(
        "orders",
        states=New | Paid | Gone,
        events=Pay | Refund | Failed[Charge],
        actions=Charge | Tell,
        final=Gone,
        unhandled=unhandled,
    )


def giving(returns: object, answer: object) -> AnyMachine:
    m = make()

    def f(state: New, event: Pay) -> object:
        return answer

    f.__annotations__["return"] = returns
    m.on(f)
    return m


@pytest.mark.parametrize("unhandled", ["reject", "defer"])
def test_an_event_that_no_edge_takes_is_refused(unhandled: str) -> None:
    """The error says machine, state and event; holding an event is the store's work, the pure function refuses it."""
    with pytest.raises(UnhandledEvent) as caught:
        advance(make(unhandled), New(), Refund())

    assert (caught.value.machine, caught.value.state, caught.value.event) == ("orders", "New", "Refund")


def test_an_event_that_no_edge_takes_may_be_ignored() -> None:
    """Under unhandled="ignore" the state stays and nothing is emitted."""
    assert advance(make("ignore"), New(4), Refund()) == (New(4), [])


@pytest.mark.parametrize("unhandled", ["reject", "ignore", "defer"])
def test_a_rejection_is_passed_on_as_it_is(unhandled: str) -> None:
    """No policy swallows what a transition refuses; its own class and reason arrive."""

    class NothingToPay(Rejected):
        pass

    m = make(unhandled)

    @m.on
    def pay(state: New, event: Pay) -> Paid:
        raise NothingToPay("nothing to pay")

    with pytest.raises(NothingToPay) as caught:
        advance(m, New(), Pay())

    assert caught.value.reason == "nothing to pay"


def test_otherwise_takes_the_pairs_that_no_handler_takes() -> None:
    """The fallback comes after every `on`, before the policy."""
    m = make("ignore")

    @m.on
    def pay(state: New, event: Pay) -> Paid:
        return Paid()

    @m.otherwise
    def rest(state: New | Paid, event: Pay | Refund) -> To[New | Paid, Tell]:
        return state, [Tell(type(event).__name__)]

    assert advance(m, New(), Pay()) == (Paid(), [])
    assert advance(m, New(), Refund()) == (New(), [Tell("Refund")])
    assert advance(m, Paid(), Pay()) == (Paid(), [Tell("Pay")])
    assert advance(m, Gone(), Pay()) == (Gone(), [])


def test_otherwise_answers_in_a_final_state_and_must_keep_it() -> None:
    """A fallback may emit in a final state; leaving or changing it is a TransitionError."""
    m = make()

    @m.otherwise
    def late(state: Gone, event: Pay) -> To[Gone, Tell]:
        return state, [Tell("too late")]

    @m.otherwise
    def back(state: Gone, event: Refund) -> New:
        return New()

    @m.otherwise
    def change(state: Gone, event: Failed[Charge]) -> Gone:
        return Gone(state.reason + "!")

    assert advance(m, Gone("x"), Pay()) == (Gone("x"), [Tell("too late")])
    for event in (Refund(), Failed(Charge())):
        with pytest.raises(TransitionError, match="left the final state Gone"):
            advance(m, Gone(), event)


@pytest.mark.parametrize(
    ("returns", "answer", "message"),
    [
        (Paid, New(), "gave New, which its signature does not name"),
        (Paid, None, "gave NoneType, which"),
        (Paid, Paid, "gave type, which"),
        (Paid, Undeclared(), "gave Undeclared, which"),
        (To[Paid], (Paid(), [Undeclared()]), "emitted Undeclared, no action of"),
        (To[Paid, Charge], (Paid(), [Charge(), Paid()]), "emitted Paid, no action of"),
        (To[Paid, Charge], (Paid(),), r"not \(state, \[actions\]\)"),
        (To[Paid, Charge], (Paid(), [], []), r"not \(state, \[actions\]\)"),
        (To[Paid, Charge], (Paid(), Charge()), r"not \(state, \[actions\]\)"),
        (To[Paid, Charge], (Paid(), None), r"not \(state, \[actions\]\)"),
    ],
)
def test_a_transition_that_breaks_its_own_signature_is_a_bug_by_name(
    returns: object, answer: object, message: str
) -> None:
    """TransitionError names the function and what it gave."""
    with pytest.raises(TransitionError, match=message) as caught:
        advance(giving(returns, answer), New(), Pay())

    assert "giving.<locals>.f (" in str(caught.value)


def test_an_action_of_the_same_name_and_another_class_is_none_of_the_machine() -> None:
    """Actions are told apart by class, not by name."""

    def twin() -> object:
        @dataclass(frozen=True)
        class Charge:
            pass

        return Charge()

    with pytest.raises(TransitionError, match="emitted Charge, no action of"):
        advance(giving(To[Paid], (Paid(), [twin()])), New(), Pay())


@pytest.mark.parametrize("emits", [[Undeclared()], [New()], None, Tell()])
def test_an_entry_that_emits_no_action_is_a_bug_for_old_and_new_machines_alike(emits: object) -> None:
    """`advance` and `begin` raise the same TransitionError for what `enter` gives: never a refusal of the input."""
    m = giving(Paid, Paid())

    @m.enter
    def enter(state: New | Paid) -> list[Tell]:
        return emits  # type: ignore[return-value]

    with pytest.raises(TransitionError):
        advance(m, New(), Pay())
    with pytest.raises(TransitionError):
        begin(m, New())


def test_entering_comes_after_the_transitions_own_actions() -> None:
    """The order of emission is the transition's actions, then those of the entered state."""
    m = giving(To[Paid, Tell], (Paid(), (Tell("own"),)))

    @m.enter
    def enter(state: Paid) -> tuple[Tell, ...]:
        return (Tell("entered"),)

    assert advance(m, New(), Pay()) == (Paid(), [Tell("own"), Tell("entered")])


@pytest.mark.parametrize(
    "decide", [lambda m, ctx: advance(m, New(), Pay(), ctx), lambda m, ctx: begin(m, Paid(), ctx)]
)
def test_a_context_is_handed_on_or_asked_for(decide: Callable[[AnyMachine, Context | None], Any]) -> None:
    """A function that asks for a context gets the caller's; without one a TypeError says who asks for it."""
    m = make()

    @m.on
    def pay(state: New, event: Pay, ctx: Context) -> Paid:
        return Paid(ctx.now)

    @m.enter
    def enter(state: Paid, ctx: Context) -> list[Tell]:
        return [Tell(f"{ctx.key} {ctx.seq}")]

    assert decide(m, CTX).actions == [Tell("front 3")]
    with pytest.raises(TypeError, match=r"(pay|enter) \(.*\) asks for a Context; pass ctx="):
        decide(m, None)


def test_failed_goes_to_the_edge_of_its_action() -> None:
    """The handler gets action, error and attempts."""
    m = make()

    @m.on
    def lost(state: New, event: Failed[Charge]) -> Gone:
        return Gone(f"{event.action.amount} {event.error} {event.attempts}")

    assert advance(m, New(), Failed(Charge(5), "Boom: no", 2)) == (Gone("5 Boom: no 2"), [])
    with pytest.raises(UnknownType, match=r"Failed\[Tell\] is no event"):
        advance(m, New(), Failed(Tell()))


@pytest.mark.parametrize("answer", [None, "queue", ("a", 1)])
def test_a_route_that_gives_no_route_is_a_bug(answer: object) -> None:
    """What `route` returns is checked before a row is made of it."""
    m = make()

    @m.route
    def route(action: Charge) -> Route:
        return answer  # type: ignore[return-value]

    with pytest.raises(TransitionError, match="no Route"):
        m.routed(Charge())
    assert m.routed(Tell()) == Route()


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 10},
        {"priority": -1},
        {"priority": True},
        {"priority": 1.0},
        {"queue": ""},
        {"queue": "a\0b"},
        {"partition_key": ""},
        {"partition_key": "\ud800"},
        {"partition_key": "x" * 256},
        {"partition_key": 7},
    ],
)
def test_a_route_that_no_row_could_hold_is_refused_before_the_database(options: dict[str, Any]) -> None:
    """A CHECK that fires would cost the caller's transaction."""
    with pytest.raises(TransitionError, match=f"Route: {next(iter(options))}="):
        Route(**options)


def test_replay_folds_events_and_counts_their_contexts() -> None:
    """Each event gets the next seq; the actions of all come in order."""
    m = make()

    @m.on
    def pay(state: New, event: Pay, ctx: Context) -> To[New, Tell]:
        return state, [Tell(str(ctx.seq))]

    assert replay(m, New(), [Pay(), Pay()], CTX) == (New(), [Tell("3"), Tell("4")])
    assert replay(m, New(), [Pay(), Pay()], [CTX.at(8), CTX.at(5)]) == (New(), [Tell("8"), Tell("5")])
    assert replay(m, New(), [], CTX) == (New(), [])


@pytest.mark.parametrize("contexts", [[CTX], [CTX, CTX, CTX]])
def test_replay_never_drops_an_event_for_want_of_a_context(contexts: list[Context]) -> None:
    """As many contexts as events, or a ValueError."""
    with pytest.raises(ValueError, match="zip"):
        replay(giving(New, New()), New(), [Pay(), Pay()], contexts)
