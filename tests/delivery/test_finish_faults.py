"""Committing results while the database is in the way: nothing is given up that may still be committed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from fsm_core import ActionStatus, After, Cancel, Machine, To
from fsm_core.delivery.finish import finish, finish_alone
from fsm_core.delivery.outcome import Again, Completed, Result
from fsm_core.errors import DatabaseError
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.registry import Registry
from fsm_core.unit import Held, Seen, Unit
from tests.workers.jobs import Did, Do, Trouble, jobs

REGISTRY = Registry([jobs])


@dataclass(frozen=True)
class Armed:
    rung: int = 0


@dataclass(frozen=True)
class Set:
    pass


@dataclass(frozen=True)
class Ring:
    pass


@dataclass(frozen=True)
class Defuse:
    pass


bomb = Machine("bomb", states=Armed, events=Set | Ring | Defuse, initial=Armed())


@bomb.on
def arm(state: Armed, _event: Set) -> To[Armed, After[Defuse] | After[Ring]]:
    return state, [After(0, Defuse(), name="fuse"), After(0, Ring(), name="ring")]


@bomb.on
def ring(state: Armed, _event: Ring) -> Armed:
    return Armed(state.rung + 1)


@bomb.on
def defuse(state: Armed, _event: Defuse) -> To[Armed, Cancel]:
    return state, [Cancel("ring")]


def claimed(engine: Engine, outbox: PostgresOutbox, event: object) -> tuple[PostgresStore, Result]:
    """A running action whose effect has returned `event`."""
    store, ticket = PostgresStore(engine), uuid4()
    store.start(jobs, "a")
    store.advance(jobs, "a", Do(("one",)))
    rows = outbox.publish("default", 1, ticket)
    (claim,) = outbox.claim(uuid4(), [row.id for row in rows], ticket, uuid4())
    return store, Result(claim, Completed((event,)))


class Failing(PostgresOutbox):
    """A store whose writes under the lock fail with one sqlstate."""

    sqlstate: str | None = None

    def write_alone(self, machine: UUID, decide: Callable[[Seen, Sequence[Held]], Unit]) -> bool:
        raise DatabaseError("no", sqlstate=self.sqlstate)


def test_a_result_with_a_bug_is_tried_again_while_its_action_is_locked(
    engine: Engine, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given somebody else's lock on the row, the result is not forgotten: its effect would run again."""
    monkeypatch.setenv("JOBS_FILE", f"{tmp_path}/notes")
    outbox = PostgresOutbox(engine)
    store, result = claimed(engine, outbox, Trouble())

    with engine.begin() as connection:
        connection.execute(text("SELECT 1 FROM fsm.actions FOR UPDATE"))
        finished = finish(outbox, REGISTRY, [result])
    assert (finished.stuck, finished.broken) == ([result], [])

    ((broken, _),) = finish_alone(outbox, REGISTRY, result).broken
    assert broken is result
    assert [(a.status, a.note) for a in store.actions()] == [(ActionStatus.FAILED, "transition")]


@pytest.mark.parametrize("sqlstate", ["53100", "57014", "42501", "25006"])
def test_a_database_in_trouble_fails_no_action(engine: Engine, sqlstate: str) -> None:
    """A full disk, a cancelled statement, a missing right, a standby: the result waits, it is not at fault."""
    outbox = Failing(engine)
    store, result = claimed(engine, outbox, Did("one"))
    outbox.sqlstate = sqlstate

    with pytest.raises(DatabaseError):
        finish_alone(outbox, REGISTRY, result)

    assert [a.status for a in store.actions()] == [ActionStatus.RUNNING]


@pytest.mark.parametrize("sqlstate", ["22P05", "23514", "54000", None])
def test_a_result_that_the_database_refuses_fails_its_action(engine: Engine, sqlstate: str | None) -> None:
    """Its values are at fault: again would give the same."""
    outbox = Failing(engine)
    store, result = claimed(engine, outbox, Did("one"))
    outbox.sqlstate = sqlstate

    assert len(finish_alone(outbox, REGISTRY, result).broken) == 1

    assert [a.status for a in store.actions()] == [ActionStatus.FAILED]


def test_a_timer_that_its_neighbour_cancels_does_not_fire(engine: Engine) -> None:
    """Two timers of one machine in one group: the first cancels the second, as if it had come a moment earlier."""
    store, outbox, registry, ticket = PostgresStore(engine), PostgresOutbox(engine), Registry([bomb]), uuid4()
    store.start(bomb, "a")
    store.advance(bomb, "a", Set())
    rows = outbox.publish("default", 2, ticket)
    claims = outbox.claim(uuid4(), [row.id for row in rows], ticket, uuid4())
    fuse, alarm = (Result(claim, Completed()) for claim in sorted(claims, key=lambda claim: claim.id.idx))

    finished = finish(outbox, registry, [fuse, alarm])
    assert (finished.done, finished.stuck) == ([fuse], [alarm])
    assert finish_alone(outbox, registry, alarm).void == [alarm]

    assert store.get(bomb, "a").state == Armed(0)
    assert [a.status for a in store.actions()] == [ActionStatus.COMPLETED, ActionStatus.CANCELLED]


def test_a_retry_that_is_blocked_again_is_ones_own_commit(engine: Engine) -> None:
    """Its answer was lost on the way: tried again, it is not taken for a result that came too late."""
    outbox = PostgresOutbox(engine)
    store, result = claimed(engine, outbox, Did("one"))
    failed = replace(result, outcome=Again("the effect failed", timedelta(seconds=9)))
    with engine.begin() as connection:
        connection.execute(text("UPDATE fsm.actions SET limit_name = 'api', limit_key = 'a'"))

    assert finish(outbox, REGISTRY, [failed]).done == [failed]
    assert [a.status for a in store.actions()] == [ActionStatus.BLOCKED]

    assert finish(outbox, REGISTRY, [failed]).done == [failed]
