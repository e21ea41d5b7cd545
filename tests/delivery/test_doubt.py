"""An outcome in doubt: who may leave one, what the probe answers, and how often it is asked. In memory, as a worker does it."""

from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from tenacity import wait_fixed

from fsm_core import ActionId, Attempt, Effects, InDoubt, NotDone, Permanent, Retry
from fsm_core.delivery.outcome import Again, GaveUp, describe, raised
from fsm_core.delivery.ports import Claimed
from fsm_core.memory import MemoryStore
from tests.core.errands import START, Desk, Done, Errand, desk, done, errands, opened, outcomes, send, state

Answers = list[Any]
TWICE = Retry(max_attempts=2, wait=wait_fixed(60))


def claim_of(attempt: int, *, in_doubt: bool = False) -> Claimed:
    return Claimed(
        ActionId(UUID(int=1), 1, 0), UUID(int=2), "desk", "1", 1, "Errand", "{}", tracked=True, queue="default",
        attempt=attempt, budget_from=0, lost=0, in_doubt=in_doubt, outcome=None, published_at=START, started_at=START,
        created_at=START,
    )  # fmt: skip


def giving(answers: Answers, asked: list[int] | None = None) -> Callable[[Any, Any], Any]:
    """A probe (or an effect) that answers one after another."""

    def probe(action: Errand, attempt: Attempt[None]) -> Any:
        if asked is not None:
            asked.append(attempt.number)
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return probe


def story(effect: Answers, probe: Answers | None, **policy: Any) -> tuple[MemoryStore, list[int], list[int]]:
    """Run an errand to its end. Returns the store, and the numbers of the attempts that ran the effect, and the probe."""
    ran: list[int] = []
    asked: list[int] = []
    effects = giving(effect, ran)
    store = opened(
        lambda action, attempt, store: effects(action, attempt) if attempt else done(action, attempt, store),
        probe=None if probe is None else giving(probe, asked),
        **policy,
    )
    send(store, "tea")
    store.drain(jump=True)
    return store, ran, asked


def test_an_effect_that_says_it_is_in_doubt_is_followed_by_its_probe() -> None:
    """The request was sent and no answer came: whether it happened is asked, not tried."""
    store, ran, asked = story([InDoubt("no answer after it was sent")], [Done("tea")])

    assert (ran, asked) == ([1], [2])
    assert state(store) == Desk(("tea",))
    assert outcomes(store) == [["error", "completed"]]


def test_exceptions_that_the_policy_calls_doubtful_are_in_doubt_too() -> None:
    """A client's own exception needs no wrapping; others stay plain errors, after which the effect is run again."""
    policy = Retry(max_attempts=3, wait=wait_fixed(60), doubtful=(TimeoutError,))

    _, ran, asked = story(
        [TimeoutError("read"), ConnectionError("connect"), Done("tea")], [NotDone()], retry=policy
    )

    assert (ran, asked) == ([1, 2, 3], [2])


def test_without_a_probe_a_doubt_is_an_error_like_any_other() -> None:
    store, ran, _ = story([InDoubt("first"), InDoubt("second")], None, retry=TWICE)

    assert ran == [1, 2]
    assert state(store) == Desk(failed=("tea: second (2)",))


def test_at_the_cap_the_probe_is_asked_still() -> None:
    """The last attempt may have happened: the machine is not told that it failed before somebody has looked."""
    store, ran, asked = story([OSError("no"), InDoubt("sent")], [Done("tea")], retry=TWICE)

    assert (ran, asked) == ([1, 2], [3])
    assert state(store) == Desk(("tea",))


def test_a_timeout_at_the_cap_is_asked_about_too() -> None:
    def hangs(action: Any, attempt: Attempt[None] | None, store: MemoryStore) -> Done | None:
        store.clock.advance(31 if attempt else 0)
        return done(action, attempt, store)

    once = Retry(max_attempts=1, wait=wait_fixed(60))
    store = opened(hangs, probe=lambda action, attempt: Done("probed"), timeout=30, retry=once)
    send(store, "tea")
    store.drain(jump=True)

    assert state(store) == Desk(("probed",))
    assert outcomes(store) == [["timed_out", "completed"]]


def test_notdone_at_the_cap_ends_it_with_certainty() -> None:
    """The effect is not started again, and the machine learns that it did not happen."""
    store, ran, _ = story([InDoubt("one"), InDoubt("two")], [NotDone(), NotDone()], retry=TWICE)

    assert ran == [1, 2]
    said = "all 2 attempts have failed; the probe says that it did not happen"
    assert state(store) == Desk(failed=(f"tea: {said} (2)",))


def test_a_probe_that_cannot_tell_is_asked_again_by_the_policy_and_given_up_at_last() -> None:
    """As often again as the effect may be started, with its pauses; meanwhile the effect is not run."""
    unable: Answers = [OSError("no contact") for _ in range(9)]
    store, ran, asked = story([InDoubt("sent")], unable, retry=TWICE)

    assert (ran, asked) == ([1], [2, 3, 4])
    assert state(store) == Desk(failed=("tea: nobody can tell whether it happened: OSError: no contact (4)",))
    assert store.clock.now() == START + timedelta(minutes=3)


def test_a_probe_that_knows_it_to_be_hopeless_ends_it() -> None:
    store, ran, _ = story([InDoubt("sent")], [Permanent("the order was withdrawn")])

    assert ran == [1]
    assert state(store) == Desk(failed=("tea: the order was withdrawn (2)",))


def test_a_plain_error_after_a_probe_leaves_no_doubt() -> None:
    """NotDone, then the effect says that it failed: it is run again without asking."""
    _, ran, asked = story([InDoubt("sent"), OSError("refused"), Done("tea")], [NotDone()])

    assert (ran, asked) == ([1, 2, 3], [2])


def test_a_doubt_outlives_the_lack_of_a_probe() -> None:
    """A plain error of a later attempt says nothing of the earlier one: code with a probe, deployed meanwhile, asks it."""
    policy = Retry(max_attempts=3)
    claimed = claim_of(attempt=2, in_doubt=True)

    outcome = raised(policy, claimed, OSError("no"))

    assert isinstance(outcome, Again)
    assert outcome.in_doubt is None


def test_resources_that_cannot_be_entered_settle_no_doubt() -> None:
    """Neither the probe nor the effect has run: what was open before is open still."""
    broken: list[bool] = []

    @contextmanager
    def resources() -> Any:
        if broken and broken.pop():
            raise ConnectionError("away")
        yield

    effects = Effects(desk, resources=resources)
    ran: list[int] = []

    @effects.act(retry=Retry(max_attempts=5, wait=wait_fixed(60)))
    def errand(action: Errand, attempt: Attempt[None]) -> Done:
        ran.append(attempt.number)
        raise InDoubt("sent")

    @effects.probe
    def asked(action: Errand) -> Done | NotDone:
        return Done("probed")

    store = MemoryStore(effects)
    store.start(desk, 1)
    send(store, "tea")
    store.drain()
    broken.append(True)
    store.drain(jump=True)

    assert ran == [1]
    assert outcomes(store) == [["error", "error", "completed"]]
    assert state(store) == Desk(("probed",))


@pytest.mark.parametrize("kind", [InDoubt, Permanent])
def test_its_text_is_what_the_effect_wrote(kind: type[Exception]) -> None:
    assert describe(kind("in its own words")) == "in its own words"


def test_doubt_and_never_together_are_a_doubt_where_there_is_a_probe() -> None:
    """`never` says that to repeat it does not help; to ask is no repetition."""
    policy = Retry(max_attempts=3, never=(OSError,), doubtful=(TimeoutError,))
    claimed = claim_of(attempt=1)

    assert isinstance(raised(policy, claimed, TimeoutError(), probed=True), Again)
    assert isinstance(raised(policy, claimed, TimeoutError()), GaveUp)


def test_the_errand_is_where_its_story_says() -> None:
    """The number of attempts counts every claim, those that only asked too."""
    store, _, _ = story([InDoubt("sent")], [OSError("?"), Done("tea")])

    assert errands(store) == [("tea", "completed", 3, None)]
