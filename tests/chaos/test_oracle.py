"""The oracle sees what is broken, and tells it from what only looks so."""

from pathlib import Path

import pytest

from chaos import conduct, mutants
from chaos.mutants import MUTANTS, rewrite, small
from chaos.oracle import Oracle
from chaos.plan import STYLES, Fault, chosen, share
from chaos.report import GREEN, INVALID, RED, status
from chaos.truth import Effects, starts
from fsm_core.postgres.statements import outbox
from tests.chaos.conftest import Rig, said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dedup_off", "two_transactions", "limit_not_counted"])
def test_a_mutant_is_found_by_the_check_that_is_named_for_it(rig: Rig, name: str) -> None:
    """One of a caller, one of a worker, one of a relay: the processes are broken, all of them."""
    _, judgement = rig.run(MUTANTS[name].plan, mutant=name)

    assert MUTANTS[name].caught_by in judgement.red
    assert status(judgement) == RED


@pytest.mark.slow
def test_retries_by_hand_are_no_results_applied_twice(rig: Rig) -> None:
    """Each retry is a new budget, which may end with another `Failed`: as often as it was retried, and no more."""
    plan = small("hand", 5, 8, 8, kinds={"doomed": 1}, operator=True, patience=40.0)
    _, judgement = rig.run(plan)

    assert judgement.numbers["retries by hand"] >= 40
    assert said(judgement) == {}
    assert status(judgement) == GREEN


@pytest.mark.slow
def test_a_run_whose_faults_hit_nothing_is_invalid(rig: Rig) -> None:
    """Green, and worth nothing: 0 of the demanded faults were done in the time that there was."""
    plan = small("idle", 1, 1, 1.0, {"kill_worker": Fault(0, 1)})
    _, judgement = rig.run(plan)

    assert said(judgement) == {}
    assert status(judgement) == INVALID


def test_every_mutant_has_something_to_do_and_names_a_check() -> None:
    """And there is one for each guarantee."""
    checks = {name for name in (*vars(Oracle), *vars(conduct)) if not name.startswith("_")}
    assert set(mutants.DOES) == set(MUTANTS)
    assert {mutant.caught_by for mutant in MUTANTS.values()} <= checks
    broken = {each for mutant in MUTANTS.values() for each in mutant.guarantee.split()}
    assert broken >= {f"G{n}" for n in range(1, 15)}


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_still_fits_the_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it replaces is there. It is put back: this process goes on."""
    changed: list[tuple[object, str]] = []
    for module, place in MUTATED[name]:
        monkeypatch.setattr(module, place, getattr(module, place))
        changed.append((module, place))
    before = [getattr(module, place) for module, place in changed]
    if name == "acknowledged_too_early":
        monkeypatch.setenv("PGOPTIONS", "")

    mutants.apply(name)

    assert all(
        getattr(module, place) is not old for (module, place), old in zip(changed, before, strict=True)
    )


def test_a_mutant_that_does_not_fit_any_more_says_so() -> None:
    with pytest.raises(LookupError, match="mend the mutant"):
        rewrite(outbox, "CLAIM", ("what nobody has written", ""))


def test_an_effect_that_was_killed_has_a_start_and_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAOS_FOLDER", str(tmp_path))
    Effects("Work", "a.1.0", 1).__enter__()
    with Effects("Work", "a.1.0", 2):
        pass

    assert [(run.attempt, run.ended is None) for run in starts(tmp_path)] == [(1, True), (2, False)]


def test_the_submitters_share_all_events_and_each_is_one_ones() -> None:
    plan = small("share", 7, 5, 1.0, submitters=3)
    mine = [[event.id for event in share(plan, index)] for index in range(3)]

    assert sorted(id_ for ids in mine for id_ in ids) == sorted(
        f"1.{m}.{n}" for m in range(7) for n in range(5)
    )
    assert mine == [[event.id for event in share(plan, index)] for index in range(3)]
    assert {chosen(id_, "style", STYLES) for id_ in (str(n) for n in range(500))} == set(STYLES)


def _mutated() -> dict[str, list[tuple[object, str]]]:
    from kombu.transport.redis import MultiChannelPoller

    from fsm_core.delivery import attempt
    from fsm_core.postgres import AsyncPostgresStore
    from fsm_core.postgres.flows import advance, many
    from fsm_core.postgres.outbox import PostgresOutbox
    from fsm_core.postgres.statements import machines, relay
    from fsm_core.retry import Retry
    from workers import relay as process
    from workers.watchdog import Watchdog

    return {
        "finish_without_claim": [(machines, "WRITE_MANY")],
        "claim_without_ticket": [(outbox, "CLAIM")],
        "ticket_renewed": [(relay, "REPUBLISH")],
        "reconcile_3_off": [(PostgresOutbox, "overdue")],
        "no_grace": [(relay, "MARK_DEAD"), (process, "reconcile"), (process, "wait_random_exponential")],
        "two_transactions": [(PostgresOutbox, "write")],
        "event_before_its_end": [(PostgresOutbox, "write")],
        "dedup_off": [(advance, "remembered"), (many, "remembered")],
        "commit_unknown_again": [(advance, "sought")],
        "inserts_not_joined": [(machines, "WRITE_ONE")],
        "rev_guard_off": [(machines, "WRITE_ONE")],
        "acknowledged_too_early": [],
        "attempt_after_effect": [
            (outbox, "CLAIM"),
            (machines, "WRITE_MANY"),
            (outbox, "MOVE"),
            (PostgresOutbox, "claim"),
        ],
        "lost_not_recorded": [(relay, "REQUEUE_DEAD")],
        "retries_without_end": [(Retry, "gives_up"), (attempt, "used_up")],
        "refusal_leaves_a_trace": [(AsyncPostgresStore, "advance")],
        "deaf_and_unwatched": [(MultiChannelPoller, "on_poll_start"), (Watchdog, "start")],
        "limit_not_counted": [(relay, "ADMIT")],
    }


MUTATED = _mutated()
