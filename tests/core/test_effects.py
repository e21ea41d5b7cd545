"""Declaring effects: a value apart from the machine."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from fsm_core import ActionId, Attempt, Effects, Failed, NotDone, Retry
from fsm_core.effects import results
from fsm_core.errors import DefinitionError
from tests.core.worker import Busy, Foreign, Go, Ring, Stop, Tell, make


def test_both_forms_of_the_decorator_return_the_function_and_register_it() -> None:
    """`@effects.act` and `@effects.act(...)` differ by their options only."""
    effects = Effects(make())

    def ring(action: Ring) -> Go | None: ...

    async def tell(action: Tell, attempt: Attempt[None]) -> list[Go | Stop]: ...

    assert effects.act(ring) is ring
    assert effects.act(retry=Retry(max_attempts=2), timeout=1.5)(tell) is tell

    first, second = effects.effect("Ring"), effects.effect("Tell")
    assert first is not None
    assert (first.function, first.takes_attempt, first.is_async) == (ring, False, False)
    assert (first.retry.max_attempts, first.timeout) == (10, timedelta(minutes=5))
    assert second is not None
    assert (second.function, second.takes_attempt, second.is_async) == (tell, True, True)
    assert (second.retry.max_attempts, second.timeout) == (2, timedelta(seconds=1.5))


def test_what_has_no_effect_yet_is_missing() -> None:
    """Every action needs one; a probe is none."""
    effects = Effects(make())
    assert effects.missing() == ("Ring", "Tell")

    @effects.probe
    def rang(action: Ring) -> Go | NotDone: ...

    assert effects.missing() == ("Ring", "Tell")
    assert effects.effect("Ring") is None
    assert effects.prober("Ring") is not None

    @effects.act
    def both(action: Ring | Tell) -> None: ...

    assert effects.missing() == ()


def no_annotation(e: Effects[None]) -> None:
    @e.act
    def f(action): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202


def no_result(e: Effects[None]) -> None:
    @e.act
    def f(action: Ring): ...  # type: ignore[no-untyped-def]  # noqa: ANN202


def foreign_action(e: Effects[None]) -> None:
    @e.act
    def f(action: Foreign) -> None: ...


def twin_of_an_action(e: Effects[None]) -> None:
    class Ring:
        pass

    @e.act
    def f(action: Ring) -> None: ...


def foreign_event(e: Effects[None]) -> None:
    @e.act
    def f(action: Ring) -> Go | Foreign: ...


def foreign_event_in_a_list(e: Effects[None]) -> None:
    @e.act
    def f(action: Ring) -> list[Foreign]: ...


def state_as_event(e: Effects[None]) -> None:
    @e.act
    def f(action: Ring) -> Busy: ...


def failed_as_event(e: Effects[None]) -> None:
    @e.act
    def f(action: Ring) -> Failed[Ring]: ...


def not_done_from_an_effect(e: Effects[None]) -> None:
    @e.act
    def f(action: Ring) -> NotDone: ...


def second_parameter_is_no_attempt(e: Effects[None]) -> None:
    @e.act
    def f(action: Ring, number: int) -> None: ...  # type: ignore[arg-type]


def keyword_only(e: Effects[None]) -> None:
    @e.act
    def f(action: Ring, *, attempt: Attempt[None]) -> None: ...  # type: ignore[arg-type]


def no_time(e: Effects[None]) -> None:
    e.act(timeout=0)(foreign_action)  # type: ignore[arg-type]


def negative_time(e: Effects[None]) -> None:
    e.act(timeout=timedelta(seconds=-1))(foreign_action)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (no_annotation, "parameter 'action' has no annotation"),
        (no_result, "the result has no annotation"),
        (foreign_action, "Foreign is no declared action"),
        (twin_of_an_action, "Ring is no declared action"),
        (foreign_event, "Foreign is no declared event"),
        (foreign_event_in_a_list, "Foreign is no declared event"),
        (state_as_event, "Busy is no declared event"),
        (failed_as_event, r"Failed\[Ring\] is made by the engine"),
        (not_done_from_an_effect, "NotDone is no declared event"),
        (second_parameter_is_no_attempt, "the last parameter must be a Attempt"),
        (keyword_only, "takes 1 positional parameters and may take a Attempt"),
        (no_time, "timeout must be positive, not 0"),
        (negative_time, "timeout must be positive"),
    ],
)
def test_a_wrong_effect_is_refused_where_it_is_declared(
    declare: Callable[[Effects[None]], None], message: str
) -> None:
    """Before any worker runs it."""
    with pytest.raises(DefinitionError, match=message):
        declare(Effects(make()))


@pytest.mark.parametrize("what", ["act", "probe"])
def test_two_effects_for_one_action_name_the_first(what: str) -> None:
    """Which one runs must not depend on what was imported last."""
    effects = Effects(make())

    def first(action: Ring) -> Go: ...

    def second(action: Ring | Tell) -> Go: ...

    getattr(effects, what)(first)
    with pytest.raises(DefinitionError, match=r"second .*Ring has .* already: .*first \("):
        getattr(effects, what)(second)


def test_one_machine_may_have_several_sets_of_effects() -> None:
    """A test passes its own; registering is not process-wide."""
    machine = make()
    real, fake = Effects(machine), Effects(machine)

    @real.act
    def ring(action: Ring) -> None: ...

    assert (real.missing(), fake.missing()) == (("Tell",), ("Ring", "Tell"))


def test_resources_are_a_factory_that_nobody_calls_here() -> None:
    """It is entered once per worker process, not where the effects are declared."""

    @contextmanager
    def clients() -> Any:
        raise AssertionError("entered")
        yield  # pragma: no cover

    assert Effects(make(), resources=clients).resources is clients
    assert Effects(make()).resources is None


def test_an_attempt_names_its_action_the_same_way_every_time() -> None:
    """The idempotency key is the action's id, not the attempt's; its text reads back as the id."""
    beats: list[int] = []
    id_ = ActionId(UUID(int=5), 7, 1)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    first = Attempt(id_, 1, now, None)
    second = Attempt(id_, 2, now, None, _beat=lambda: beats.append(1))

    second.heartbeat()
    first.heartbeat()

    assert first.idempotency_key == second.idempotency_key == "00000000-0000-0000-0000-000000000005.7.1"
    assert ActionId.parse(first.idempotency_key) == id_
    assert beats == [1]


@pytest.mark.parametrize("text", ["", "5.7.1", "00000000-0000-0000-0000-000000000005.7", "x.1.2"])
def test_what_is_no_action_id_is_no_action_id(text: str) -> None:
    """Parsing raises ValueError."""
    with pytest.raises(ValueError):
        ActionId.parse(text)


@pytest.mark.parametrize(
    ("answer", "events"),
    [(None, []), (Go(), [Go()]), ([Go(), Stop()], [Go(), Stop()]), ((Go(),), [Go()]), ([], [])],
)
def test_what_an_effect_returns_is_a_list_of_events(answer: object, events: Sequence[object]) -> None:
    """Nothing, one or several."""
    assert results(answer) == events
