"""Attempts in one process, without a database: what hangs, falls silent, exits, is killed, is told to stop."""

import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn
from uuid import UUID, uuid4

import psutil
import pytest

from fsm_core import ActionId
from fsm_core.codec import encode
from fsm_core.delivery.attempt import Pulse
from fsm_core.delivery.outcome import Again, Completed, GaveUp, Outcome, Result
from fsm_core.delivery.ports import Claimed
from fsm_core.errors import ConfigurationError, InvalidPayload
from fsm_core.registry import Registry
from tests.waiting import eventually
from tests.workers.hazards import KINDS, Did, effects, gate
from tests.workers.jobs import notes, pids
from workers import isolated
from workers.effect import Here, Runner, found
from workers.isolated import Isolation

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MACHINES = ("tests.workers.hazards:effects",)


def claim_of(plan: str, *, attempt: int = 1, in_doubt: bool = False, lost: int = 0) -> Claimed:
    kind, plan = plan.split(" ", 1)
    return Claimed(
        ActionId(UUID(int=1), 1, 0), uuid4(), "hazards", "a", 1, kind, encode(KINDS[kind](plan), "action"), tracked=True,
        queue="default", attempt=attempt, budget_from=0, lost=lost, in_doubt=in_doubt, outcome=None, published_at=NOW,
        started_at=NOW, created_at=NOW,
    )  # fmt: skip


class Bench:
    """A runner and what it gave."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.results: list[Result] = []
        self.hanging: list[Claimed] = []
        self.stuck = threading.Semaphore(0)
        self.runner = self.made()

    def made(self, *, most: int = 2, patience: float = 600, machines: tuple[str, ...] = MACHINES) -> Runner:
        self.runner = Runner(
            Registry([effects]), self.results.append, isolation=Isolation(machines), most=most,
            patience=timedelta(seconds=patience), on_hang=self.hanging.append, on_stuck=self.stuck.release,
        )  # fmt: skip
        self.runner.start()
        return self.runner

    def begin(self, plan: str, **options: int) -> threading.Thread:
        thread = threading.Thread(target=self.runner.run, args=(claim_of(plan, **options),), daemon=True)  # type: ignore[arg-type]
        thread.start()
        return thread

    def outcome(self, plan: str, **options: int) -> Outcome:
        """Run one attempt; what came of it."""
        before = len(self.results)
        self.runner.run(claim_of(plan, **options))  # type: ignore[arg-type]
        (result,) = self.results[before:]
        assert not result.late
        return result.outcome

    def beaten(self) -> bool:
        """Whether a beat of what runs has come here."""
        pulses = [run.pulse for run in self.runner.runs()]
        return any(pulse.heard > pulse.ends - pulse.effect.timeout.total_seconds() for pulse in pulses)

    def noted(self, line: str) -> None:
        eventually(lambda: line in notes(self.file), timeout=60, what=f"{line!r} is noted")

    def given(self, count: int) -> list[Result]:
        eventually(lambda: len(self.results) >= count, timeout=60, what=f"{count} results")
        return self.results


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("JOBS_FILE", str(tmp_path / "notes"))
    bench = Bench(tmp_path / "notes")
    yield bench
    gate("end").touch()
    bench.runner.stop()


def again(outcome: Outcome, error: str, *, doubt: bool | None, kind: str = "error") -> bool:
    assert isinstance(outcome, Again)
    assert (outcome.error, outcome.in_doubt, outcome.kind) == (error, doubt, kind)
    return True


@pytest.mark.parametrize("kind", ["Plain", "Async", "AloneAsync"])
def test_an_effect_that_stops_beating_is_given_up(bench: Bench, kind: str) -> None:
    """Long before its timeout; its beats count from any thread, loop and process."""
    bench.begin(f"{kind} beat until silence")
    eventually(bench.beaten, timeout=60, what="its beats are heard")

    gate("silence").touch()

    result = bench.given(1)[0]
    assert again(result.outcome, "TimeoutError: no heartbeat for 0.3 s", doubt=True, kind="timed_out")
    if kind != "Plain":
        bench.noted("cancelled beat until silence")


def test_what_hangs_in_a_thread_keeps_its_slot_and_two_of_them_use_up_the_process(bench: Bench) -> None:
    first = bench.begin("Plain wait end")
    eventually(lambda: len(bench.hanging) == 1, what="the first is given up")
    assert not bench.stuck.acquire(blocking=False)
    assert first.is_alive()
    assert bench.runner.hanging() == 1

    second = bench.begin("Plain wait end")

    assert bench.stuck.acquire(timeout=60)
    assert [each.outcome.kind for each in bench.results if isinstance(each.outcome, Again)] == [
        "timed_out"
    ] * 2
    gate("end").touch()
    for thread in (first, second):
        thread.join()
    assert bench.runner.hanging() == 0
    late = [result for result in bench.results if result.late]
    by = psutil.Process().pid
    assert [result.outcome for result in late] == [Completed((Did("wait end", by),))] * 2


def test_one_that_hangs_for_too_long_uses_up_the_process(bench: Bench) -> None:
    bench.runner.stop()
    bench.made(patience=0.1)

    bench.begin("Plain wait end")

    assert bench.stuck.acquire(timeout=60)
    assert len(bench.hanging) == 1


def test_one_that_returns_after_all_does_not_count(bench: Bench) -> None:
    """Its result is late, its slot is free again: the next one that hangs is the first."""
    thread = bench.begin("Plain wait first")
    eventually(lambda: bench.hanging, what="it is given up")
    gate("first").touch()
    thread.join()

    bench.begin("Plain wait end")
    eventually(lambda: len(bench.hanging) == 2, what="another one is given up")

    assert not bench.stuck.acquire(blocking=False)


@pytest.mark.parametrize(
    "plan", ["Async system exit", "Async interrupt", "Async base", "Patient system exit", "Patient base"]
)
def test_what_would_end_a_process_is_an_error_like_any_other(bench: Bench, plan: str) -> None:
    """The loop of the async effects lives on."""
    outcome = bench.outcome(plan)

    assert isinstance(outcome, Again)
    assert outcome.error.startswith("Exited: ")
    assert bench.outcome("Async fine") == Completed((Did("fine", psutil.Process().pid),))


def test_a_task_that_an_effect_leaves_behind_cannot_end_the_loop(bench: Bench) -> None:
    assert bench.outcome("Async task exits") == Completed((Did("task exits"),))
    assert bench.outcome("Async fine") == Completed((Did("fine", psutil.Process().pid),))


def test_an_isolated_effect_runs_in_a_process_of_its_own_which_is_used_again(bench: Bench) -> None:
    """Resources are entered there, and not here."""
    answers = [bench.outcome("Hermit one"), bench.outcome("Hermit two"), bench.outcome("AloneAsync three")]

    events = [answer.events[0] for answer in answers if isinstance(answer, Completed)]
    assert [event.plan for event in events if isinstance(event, Did)] == ["one", "two", "three"]
    assert len({event.by for event in events if isinstance(event, Did)}) == 1
    assert psutil.Process().pid not in pids(bench.file)
    assert notes(bench.file).count("entered") == 1


def test_leaving_ends_the_children_which_leave_their_resources(bench: Bench) -> None:
    bench.outcome("Hermit one")
    bench.runner.stop()

    assert notes(bench.file)[-1] == "left"
    assert not any(psutil.pid_exists(pid) for pid in pids(bench.file))


def test_an_isolated_effect_that_hangs_is_killed_with_all_that_it_started(bench: Bench) -> None:
    """At once: its slot is free again, and nothing hangs here."""
    outcome = bench.outcome("Alone grandchild")

    assert again(outcome, "TimeoutError: no answer within 1 s", doubt=True, kind="timed_out")
    grandchild = next(line for line in notes(bench.file) if line.startswith("grandchild"))
    started = {*pids(bench.file), int(grandchild.split()[1])}
    eventually(lambda: not any(alive(pid) for pid in started), what="both are gone")
    assert not bench.hanging


@pytest.mark.parametrize(("plan", "how"), [("exit", "with status 3"), ("kill", "by SIGKILL")])
def test_an_isolated_effect_that_ends_its_process_leaves_a_doubt(bench: Bench, plan: str, how: str) -> None:
    """It may have happened. This process lives, and the next attempt has a new one."""
    assert again(bench.outcome(f"Hermit {plan}"), f"its own process ended {how}", doubt=True)
    assert isinstance(bench.outcome("Hermit fine"), Completed)


def test_what_an_isolated_effect_leaves_behind_goes_with_it(bench: Bench) -> None:
    """Its process ends by itself; what it had started holds up nobody, and ends too."""
    assert again(bench.outcome("Hermit orphan"), "its own process ended with status 3", doubt=True)
    orphan = next(line for line in notes(bench.file) if line.startswith("grandchild"))
    eventually(lambda: not alive(int(orphan.split()[1])), what="it is gone")


def test_at_the_cap_an_isolated_effect_without_a_probe_has_failed(bench: Bench) -> None:
    assert bench.outcome("AloneAsync exit", attempt=4) == GaveUp("its own process ended with status 3")


def test_the_probe_of_an_isolated_effect_is_asked_there(bench: Bench) -> None:
    answer = bench.outcome("Alone probed", attempt=2, in_doubt=True)

    assert isinstance(answer, Completed)
    assert [(e.plan, e.by in pids(bench.file)) for e in answer.events if isinstance(e, Did)] == [
        ("probed", True)
    ]
    assert again(
        bench.outcome("Alone probe dies", attempt=2, in_doubt=True),
        "its own process ended with status 5",
        doubt=True,
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [(ConnectionError("away"), "ConnectionError: away"), (SystemExit(3), "Exited: SystemExit: 3")],
)
def test_resources_that_cannot_be_entered_settle_no_doubt(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    """Neither probe nor effect was asked anything: the next attempt asks the probe first, as this one would have."""
    here, job = Here(), found(Registry([effects]), claim_of("Alone fine", attempt=2, in_doubt=True))

    def away(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(here._resources, "of", away)
    outcome = here.attempt(job, Pulse(job.effect, time.monotonic), lambda: None)

    assert again(outcome, said, doubt=True)


def test_the_worker_judges_an_isolated_effects_error_by_its_policy(bench: Bench) -> None:
    assert again(
        bench.outcome("Alone unspeakable"), "Unspeakable: (its message cannot be shown)", doubt=False
    )
    assert again(bench.outcome("Alone doubt"), "sent", doubt=True)
    assert again(bench.outcome("Alone system exit"), "Exited: SystemExit: 3", doubt=False)


@pytest.mark.parametrize("answer", ["huge", "nul", "unserialisable", "foreign"])
@pytest.mark.parametrize("kind", ["Patient", "Hermit"])
def test_an_answer_that_cannot_be_kept_fails_for_good(bench: Bench, kind: str, answer: str) -> None:
    """The effect has run: to run it again would give the same answer, and its effect twice."""
    outcome = bench.outcome(f"{kind} {answer}")

    assert isinstance(outcome, GaveUp)
    assert outcome.error.startswith("the effect returned what cannot be applied: ")


def test_a_suspect_is_isolated_and_takes_nobody_along(bench: Bench) -> None:
    """An action that was lost twice may be what kills its process; one that was lost once runs as ever."""
    assert again(
        bench.outcome("Patient kill", lost=2, attempt=3), "its own process ended by SIGKILL", doubt=True
    )
    bench.outcome("Patient fine", lost=1)
    assert psutil.Process().pid in pids(bench.file)


def test_what_cannot_be_isolated_is_handed_back(bench: Bench) -> None:
    """Its machines are not named, or cannot be loaded there: nothing was started, and no attempt is used up."""
    for machines in ((), ("tests.workers.nowhere:effects",)):
        bench.runner.stop()
        bench.made(machines=machines)
        with pytest.raises(ConfigurationError, match="isolated effect"):
            bench.runner.run(claim_of("Alone fine"))
    assert not bench.results
    assert not notes(bench.file)


def test_a_process_that_was_killed_while_it_was_idle_costs_no_attempt(bench: Bench) -> None:
    """Nothing had been started in it: the next effect has a new one."""
    bench.outcome("Hermit one")
    (child,) = pids(bench.file)
    psutil.Process(child).kill()
    (idle,) = bench.runner._isolation._idle
    eventually(lambda: not idle.waits, what="all of it is gone, its threads too")

    assert isinstance(bench.outcome("Hermit two"), Completed)


def test_whoever_is_stopped_too_late_takes_nobody_along(bench: Bench) -> None:
    """Its effect has ended, and its process may be at another one."""
    first = bench.begin("Hermit wait go")
    bench.noted("start wait go 1")
    (run,) = bench.runner.runs()
    gate("go").touch()
    first.join(60)

    run.stop()

    assert isinstance(bench.outcome("Hermit two"), Completed)
    assert len(pids(bench.file)) == 1


def test_what_is_told_to_stop_before_its_loop_has_it_is_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = bench.runner._here._loop
    submit = loop.submit

    def late(work: Coroutine[object, object, object]) -> Future[object]:
        bench.runner.void()
        return submit(work)

    monkeypatch.setattr(loop, "submit", late)
    effect = bench.begin("Async beat until never")

    effect.join(60)
    assert not effect.is_alive()


def test_an_answer_of_newer_code_leaves_a_doubt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code was replaced under a worker that runs, and its child loaded the new: the effect has run, so its attempt counts."""

    def newer(*_: object) -> NoReturn:
        raise InvalidPayload("what is that")

    monkeypatch.setattr(isolated, "from_json", newer)

    said = "its own process answered what cannot be read: InvalidPayload: what is that"
    assert again(bench.outcome("Hermit fine"), said, doubt=True)


def test_a_process_that_does_not_come_up_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "START", "import signal; signal.pause()")
    monkeypatch.setattr(isolated, "PATIENCE_AT_START", 0.2)

    with pytest.raises(ConfigurationError, match="ended by SIGKILL"):
        bench.runner.run(claim_of("Alone fine"))


def test_a_void_claim_stops_what_can_be_stopped(bench: Bench) -> None:
    """The lease was lost: async effects are cancelled, isolated ones killed; a thread goes on."""
    stoppable = [bench.begin("Hermit hang"), bench.begin("Async beat until never")]
    thread = bench.begin("Patient wait end")
    for line in ("start hang 1", "start beat until never 1", "start wait end 1"):
        bench.noted(line)

    bench.runner.void()

    for each in stoppable:
        each.join(timeout=60)
        assert not each.is_alive()
    assert thread.is_alive()
    assert len(bench.results) == 2


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
