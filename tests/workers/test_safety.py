"""Effects that hang or kill, in real workers: how often they start, what their neighbours notice, who is replaced."""

import os
import signal
import sys
from collections.abc import Iterator

import psutil
import pytest

from fsm_core.postgres import PostgresStore
from tests.waiting import eventually
from tests.workers.conftest import ROOT, Cluster
from tests.workers.hazards import Calm, Do, gate, hazards
from tests.workers.jobs import notes, pids
from workers.dev.supervise import Command, Ended, Supervisor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class Kept:
    """A worker with a supervisor that starts it again."""

    def __init__(self, cluster: Cluster, supervisor: Supervisor, ended: list[Ended]) -> None:
        self.cluster, self.supervisor, self.ended = cluster, supervisor, ended
        self.store = PostgresStore(cluster.engine, machines=[hazards])
        self.store.start(hazards, "a")

    def worker(self, *, pool: str = "threads", slots: int = 4) -> None:
        celery = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "workers",
            "worker",
            "-P",
            pool,
            "-c",
            str(slots),
            "-Q",
            "default",
        ]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        log = self.cluster.folder / "worker.log"
        self.supervisor.start("worker", Command([*celery, *quiet], env=self.cluster.env, cwd=ROOT, log=log))

    def do(self, *plans: str) -> None:
        self.store.advance(hazards, "a", Do(plans))

    def noted(self, *lines: str) -> None:
        seen = lambda: set(lines) <= set(notes(self.cluster.notes))  # noqa: E731
        try:
            eventually(seen, timeout=90, what=f"{lines} are noted")
        except TimeoutError as error:
            error.add_note(self.cluster.picture())
            raise

    def starts(self, plan: str) -> int:
        return sum(line.startswith(f"start {plan} ") for line in notes(self.cluster.notes))

    def state(self) -> Calm:
        return self.store.get(hazards, "a").state


@pytest.fixture
def kept(cluster: Cluster) -> Iterator[Kept]:
    cluster.env["FSM_MACHINES"] = "tests.workers.hazards:effects"
    ended: list[Ended] = []
    with Supervisor(grace=15, on_end=ended.append) as supervisor:
        yield Kept(cluster, supervisor, ended)
        gate("end").touch()


def test_a_killer_starts_no_more_often_than_it_may_and_kills_its_process_twice(kept: Kept) -> None:
    """Then it is a suspect, and runs in a process of its own: its neighbours lose two attempts at most."""
    kept.cluster.relay()
    kept.worker()
    kept.do("Patient wait go")
    kept.noted("start wait go 1")

    kept.do("Plain kill")
    eventually(lambda: kept.state().failed, timeout=120, what="the killer has failed")
    gate("go").touch()
    actions = {a.name: a for a in kept.cluster.settled(timeout=60)}

    assert kept.starts("kill") == 4
    assert kept.state() == Calm(("wait go",), ("kill: its own process ended by SIGKILL (4)",))
    assert [a.outcome for a in actions["Plain"].attempts] == ["lost", "lost", "error", "failed"]
    assert len(actions["Patient"].attempts) <= 3
    assert [end.status for end in kept.ended] == [-signal.SIGKILL] * 2


def test_a_process_with_threads_that_hang_is_replaced_when_its_neighbours_have_finished(kept: Kept) -> None:
    """It takes no more messages, and ends with a status that its supervisor takes for a failure."""
    kept.cluster.relay()
    kept.worker()
    kept.do("Patient wait go", "Plain wait end|one", "Plain wait end|two")
    kept.noted("start wait go 1", "start wait end|one 1", "start wait end|two 1")
    eventually(
        lambda: "this process ends" in kept.cluster.log("worker"), timeout=60, what="it has had enough"
    )
    assert not kept.ended

    gate("go").touch()
    actions = {str(a.payload["plan"]): a for a in kept.cluster.settled(timeout=90)}

    assert [end.status for end in kept.ended] == [os.EX_SOFTWARE]
    assert [a.outcome for a in actions["wait go"].attempts] == ["completed"]
    assert [a.outcome for a in actions["wait end|one"].attempts] == ["timed_out", "completed"]
    assert len(pids(kept.cluster.notes)) == 2
    assert sorted(kept.state().done) == ["wait end|one", "wait end|two", "wait go"]


FOUR = (
    "Patient unspeakable",
    "Patient system exit",
    "Patient base",
    "Patient memory",
    "Async interrupt",
    "Alone exit",
    "Alone loop",
)
ONCE = ("Patient huge", "Patient nul", "Patient unserialisable", "Patient foreign", "Hermit huge")


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_poison_is_dead_after_its_attempts_and_its_neighbours_live(kept: Kept, pool: str) -> None:
    """What raises, ends its process or hangs: exactly four starts. What gives an answer that cannot be kept: one."""
    hangs = () if pool == "threads" else ("Plain loop",)  # there it takes its child with it
    kept.cluster.relay()
    kept.worker(pool=pool, slots=3)

    kept.do(*FOUR, *hangs, *ONCE, *(f"Patient fine {n}" for n in range(5)))
    actions = kept.cluster.settled(timeout=180)

    # The probe of what is alone is asked once more at the end, which is no start.
    starts = {f"{a.name} {a.payload['plan']}": len(a.attempts) for a in actions if a.status == "failed"}
    assert starts == {**dict.fromkeys((*FOUR, *hangs), 4), **dict.fromkeys(ONCE, 1)}
    assert kept.starts("exit") == 4
    assert len(kept.state().failed) == len(starts)
    assert len(kept.state().done) == 5
    assert not kept.ended


def test_no_isolated_effect_outlives_its_worker(kept: Kept) -> None:
    """SIGKILL of the worker: nobody is left to end it, and it ends."""
    kept.cluster.relay()
    kept.worker(slots=2)
    kept.do("Hermit grandchild")
    kept.noted("start grandchild 1")
    (child,) = pids(kept.cluster.notes)

    psutil.Process(kept.supervisor.pid("worker")).kill()

    eventually(lambda: not psutil.pid_exists(child), timeout=30, what="the child is gone")
    kept.supervisor.stop("worker")
