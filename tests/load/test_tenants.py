"""A tenant that floods, under a concurrency limit on its key, holds nobody back: told by rows and by what ran, never by time."""

from collections import Counter
from itertools import accumulate

from sqlalchemy import Engine

from fsm_core.postgres import PostgresStore
from tests.delivery.calls import Make, calls
from tests.delivery.test_limits import claim, tick
from tests.load.tenants import Ask, desk
from tests.waiting import eventually
from tests.workers.conftest import Cluster, cluster
from tests.workers.jobs import notes

__all__ = ["cluster"]  # the fixture

ROOM, SLOTS = 2, 4
TENANTS, EACH = 10, 10
FLOOD = 10 * EACH


def test_a_flood_leaves_the_other_slots_to_the_others(cluster: Cluster) -> None:
    """Ten times as much of one tenant, and before all others: while all of theirs run, two of the flood's do.

    The flood's effects do not end before the gate is open, so all that the others need is what the limit leaves them.
    """
    # A lease that no busy machine takes away: a second run would be none of the flood's doing.
    cluster.env |= {"FSM_MACHINES": "tests.load.tenants:effects", "FSM_LEASE": "60"}
    cluster.store.limit("tenant", max_running=ROOM)
    cluster.store.start(desk, "d")
    cluster.relay()
    cluster.worker(slots=SLOTS)
    cluster.store.advance(desk, "d", Ask("flood", FLOOD, "go"))
    eventually(
        lambda: notes(cluster.notes).count("start flood") == ROOM,
        timeout=30,
        what="the flood has its share",
    )

    for tenant in range(TENANTS):
        cluster.store.advance(desk, "d", Ask(f"tenant {tenant}", EACH))
    theirs = "SELECT count(*) FROM fsm.actions WHERE status = 'completed' AND limit_key <> 'flood'"
    eventually(lambda: cluster.ask(theirs) == TENANTS * EACH, timeout=40, what="all of the others' have run")

    ran = Counter(notes(cluster.notes))
    assert (ran["start flood"], ran["end flood"]) == (ROOM, 0)
    cluster.open("go")
    cluster.settled(timeout=40)
    log = [line.split(maxsplit=1) for line in notes(cluster.notes)]
    for tenant, times in {"flood": FLOOD, **{f"tenant {n}": EACH for n in range(TENANTS)}}.items():
        steps = [1 if what == "start" else -1 for what, who in log if who == tenant]
        assert steps.count(1) == steps.count(-1) == times
        assert max(accumulate(steps)) <= ROOM


def test_no_more_of_the_flood_starts_before_another_than_its_limit(engine: Engine) -> None:
    """However long the flood's queue is: between a call of somebody else and its start at most two of the flood's start."""
    store = PostgresStore(engine, machines=[calls])
    store.start(calls, "m")
    store.limit("api", max_running=ROOM)
    store.advance(calls, "m", Make(1000, "flood", priority=0))
    started = claim(engine, tick(engine))

    for n in range(20):
        for each in started:
            store.cancel_action(each)
        store.advance(calls, "m", Make(1, f"tenant {n}"))
        started = claim(engine, tick(engine))
        assert Counter(str(store.action(each).payload["tenant"]) for each in started) == {
            "flood": ROOM,
            f"tenant {n}": 1,
        }
