"""Mutants: the code broken on purpose, one guarantee at a time, with a small load that brings it out. The oracle must see each.

They are applied in the processes of a run, before anything else (`chaos.entry`); no production code knows of them. One that no longer
fits the code it breaks says so at once.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chaos.plan import Fault, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

DOES: dict[str, Callable[[], None]] = {}
BETWEEN = 0.05
"""Seconds between the two transactions of a mutant that has two."""

HEARS = 4.0
"""Seconds for which a worker hears that is deaf then."""

QUICK = {"work": 1}
SLOW = {"slow": 1}
OWN = {"own": 1}


@dataclass(frozen=True)
class Mutant:
    """What it breaks (guarantees, or what else is promised), the run in which that shows, and the check that must find it."""

    guarantee: str
    caught_by: str
    plan: Plan


def small(
    name: str,
    machines: int,
    events: int,
    seconds: float,
    faults: Mapping[str, Fault] | None = None,
    **more: Any,
) -> Plan:
    """A run of some seconds: a worker, a relay, and what is asked for besides."""
    given: dict[str, Any] = {
        "lease": 2.0, "submitters": 1, "workers": {"threads": "threads"}, "relays": 1, "operator": False, "duplicates": 0.0,
        "patience": 15.0, "kinds": QUICK, "styles": OWN, **more,
    }  # fmt: skip
    return Plan(name, machines, events, seconds, faults=faults or {}, **given)


TWO = {"threads": "threads", "second": "threads"}
FORKS = {"prefork": "prefork"}
SOLO = {"solo": "solo"}
MUTANTS = {
    "finish_without_claim": Mutant(
        "G8", "results", small("fwc", 10, 4, 16, {"stop_worker": Fault(3)}, kinds=SLOW, workers=TWO | SOLO)
    ),
    "claim_without_ticket": Mutant("G7", "explained", small("cwt", 10, 6, 6, kinds=SLOW, duplicates=2.0, workers=SOLO | TWO, patience=30.0)),
    "ticket_renewed": Mutant("G11", "recovered", small("ren", 10, 1, 4, {"flush": Fault(1, 1)}, kinds=SLOW, workers=SOLO, patience=30.0)),
    "reconcile_3_off": Mutant("G6", "ended", small("rec", 10, 1, 4, {"flush": Fault(1, 1)}, kinds=SLOW, workers=SOLO, patience=30.0)),
    "no_grace": Mutant(
        "G10", "graves", small("grace", 5, 5, 12, {"postgres_away": Fault(1)}, kinds=SLOW, workers=TWO, lease=6.0)
    ),
    "two_transactions": Mutant("G1", "results", small("two", 3, 60, 8, submitters=3)),
    "dedup_off": Mutant("G3", "once", small("ded", 10, 12, 5, styles={"dedup": 1})),
    "commit_unknown_again": Mutant("G3", "once", small("unk", 5, 40, 10, {"cut_after_commit": Fault(3)})),
    "inserts_not_joined": Mutant("G1", "atomic", small("ins", 2, 150, 8, submitters=3)),
    "rev_guard_off": Mutant("G4 G5", "replays", small("rev", 2, 150, 8, submitters=3)),
    "acknowledged_too_early": Mutant("G2", "acknowledged", small("ack", 10, 60, 8, {"stop_postgres": Fault(3)}, patience=30.0)),
    "attempt_after_effect": Mutant("G7", "explained", small("att", 8, 2, 8, {"kill_child": Fault(2, 2)}, kinds=SLOW, workers=FORKS, patience=30.0)),
    "lost_not_recorded": Mutant("G7", "explained", small("los", 8, 2, 8, {"kill_child": Fault(2, 2)}, kinds=SLOW, workers=FORKS, patience=30.0)),
    "retries_without_end": Mutant("G9", "bounded", small("cap", 5, 4, 4, kinds={"doomed": 1})),
    "refusal_leaves_a_trace": Mutant("G12", "refused", small("ref", 5, 5, 4, styles={"bad": 1})),
    "event_before_its_end": Mutant("G13", "told", small("tol", 10, 15, 6, kinds={"send": 1}, duplicates=2.0, workers=TWO)),
    "deaf_and_unwatched": Mutant("G14", "ended", small("deaf", 5, 8, 10)),
    "limit_not_counted": Mutant("limits", "limits", small("lim", 5, 20, 4, kinds={"limited": 1}, workers=TWO)),
}  # fmt: skip


def apply(name: str) -> None:
    """Break the code of this process. Raises KeyError, and LookupError if the mutant does not fit the code any more."""
    DOES[name]()


def does(function: Callable[[], None]) -> Callable[[], None]:
    """Register what a mutant does, under its name."""
    DOES[function.__name__] = function
    return function


def rewrite(module: ModuleType, name: str, *pairs: tuple[str, str]) -> None:
    """Put other SQL into a statement."""
    statement = getattr(module, name)
    text = statement.text
    for old, new in pairs:
        if old not in text:
            raise LookupError(f"{name} has no {old!r} any more: mend the mutant")
        text = text.replace(old, new)
    setattr(module, name, replace(statement, text=text))


def put(where: object, name: str, function: Callable[..., object]) -> None:
    """Put another function in the place of one. Raises LookupError: there is none of that name any more."""
    if not hasattr(where, name):
        raise LookupError(f"{where} has no {name} any more: mend the mutant")
    setattr(where, name, function)


@does
def finish_without_claim() -> None:
    from fsm_core.postgres.statements import machines

    rewrite(machines, "WRITE_MANY", ("(a.status = u.want AND a.token = u.mine) AS held", "true AS held"))


@does
def claim_without_ticket() -> None:
    from fsm_core.postgres.statements import outbox

    rewrite(
        outbox,
        "CLAIM",
        (
            "status = 'published' AND token = %(ticket)s",
            "(status IN ('published', 'running') OR token = %(ticket)s)",
        ),
    )


@does
def ticket_renewed() -> None:
    from fsm_core.postgres.statements import relay

    rewrite(
        relay,
        "REPUBLISH",
        ("publishes = a.publishes + 1", "publishes = a.publishes + 1, token = gen_random_uuid()"),
    )


@does
def reconcile_3_off() -> None:
    from fsm_core.postgres.outbox import PostgresOutbox

    def overdue(_self: PostgresOutbox, *_given: object) -> list[Any]:
        return []

    put(PostgresOutbox, "overdue", overdue)


@does
def no_grace() -> None:
    """And relays that are back before anybody else, so that it shows."""
    from fsm_core.delivery.reconcile import reconcile
    from fsm_core.postgres.statements import relay
    from workers import relay as process

    grace = "pg_postmaster_start_time() + %(lease)s::interval < clock_timestamp()"
    rewrite(relay, "MARK_DEAD", (grace, "%(lease)s::interval IS NOT NULL"))

    def hasty(*given: Any, may_bury: bool, **more: Any) -> Any:
        return reconcile(*given, may_bury=may_bury or True, **more)

    put(process, "reconcile", hasty)
    put(process, "wait_random_exponential", lambda **_: lambda _attempt: BETWEEN)


@does
def two_transactions() -> None:
    """The action's end first, what its machine makes of it after that."""
    from fsm_core.delivery.ports import Move
    from fsm_core.postgres.outbox import PostgresOutbox

    original = PostgresOutbox.write

    def write(self: PostgresOutbox, units: Sequence[Any]) -> set[int]:
        self.move([Move(e.id, e.want, e.mine, e.to) for unit in units for e in unit.endings])
        time.sleep(BETWEEN)
        for unit in units:
            unit.endings.clear()
        return original(self, units)

    put(PostgresOutbox, "write", write)


@does
def event_before_its_end() -> None:
    """What a machine makes of it first, the action's end after that."""
    from fsm_core.delivery.ports import Move
    from fsm_core.postgres.outbox import PostgresOutbox

    original = PostgresOutbox.write

    def write(self: PostgresOutbox, units: Sequence[Any]) -> set[int]:
        moves = [Move(e.id, e.want, e.mine, e.to) for unit in units for e in unit.endings]
        for unit in units:
            unit.endings.clear()
        written = original(self, units)
        time.sleep(BETWEEN)
        self.move(moves)
        return written

    put(PostgresOutbox, "write", write)


@does
def dedup_off() -> None:
    from fsm_core.postgres.flows import advance, many

    def remembered(*_given: object) -> None:
        return None

    put(advance, "remembered", remembered)
    put(many, "remembered", remembered)


@does
def commit_unknown_again() -> None:
    from fsm_core.postgres.flows import advance

    async def sought(*_given: object) -> None:
        return None

    put(advance, "sought", sought)


@does
def inserts_not_joined() -> None:
    from fsm_core.postgres.statements import machines

    anybody = (
        "(SELECT %(id)s::uuid AS id, (SELECT x.seq + 1 FROM {s}.machines x WHERE x.id = %(id)s) AS seq) m"
    )
    rewrite(machines, "WRITE_ONE", ("FROM m, unnest(%(a_idx)s", f"FROM {anybody}, unnest(%(a_idx)s"))


@does
def rev_guard_off() -> None:
    from fsm_core.postgres.statements import machines

    rewrite(
        machines, "WRITE_ONE", ("WHERE id = %(id)s AND rev = %(rev)s FOR NO KEY UPDATE SKIP LOCKED", "WHERE id = %(id)s FOR NO KEY UPDATE"),
        ("t.id = l.id AND t.rev = %(rev)s", "t.id = l.id AND %(rev)s IS NOT NULL"),
    )  # fmt: skip


@does
def acknowledged_too_early() -> None:
    os.environ["PGOPTIONS"] = "-c synchronous_commit=off"


@does
def attempt_after_effect() -> None:
    from fsm_core.postgres.outbox import PostgresOutbox
    from fsm_core.postgres.statements import machines, outbox

    rewrite(outbox, "CLAIM", ("attempt = a.attempt + 1", "attempt = a.attempt"))
    rewrite(
        machines, "WRITE_MANY", ("attempt = t.attempt + lf.attempt", "attempt = t.attempt + lf.attempt + 1")
    )
    rewrite(
        outbox,
        "MOVE",
        ("attempt = a.attempt + ok.step", "attempt = a.attempt + ok.step + (ok.want = 'running')::int"),
    )
    original = PostgresOutbox.claim

    def claim(self: PostgresOutbox, *given: Any) -> list[Any]:
        found: list[Any] = original(self, *given)
        return [each._replace(attempt=each.attempt + 1) if each.outcome is None else each for each in found]

    put(PostgresOutbox, "claim", claim)


@does
def lost_not_recorded() -> None:
    from fsm_core.postgres.statements import relay

    rewrite(relay, "REQUEUE_DEAD", ("'lost' FROM l ON CONFLICT", "'lost' FROM l WHERE false ON CONFLICT"))


@does
def retries_without_end() -> None:
    from fsm_core.delivery import attempt
    from fsm_core.retry import Retry

    def gives_up(_self: Retry, *_given: object, **_more: object) -> bool:
        return False

    def used_up(*_given: object, **_more: object) -> None:
        return None

    put(Retry, "gives_up", gives_up)
    put(attempt, "used_up", used_up)


@does
def refusal_leaves_a_trace() -> None:
    from sqlalchemy import text

    from fsm_core.errors import Refused
    from fsm_core.postgres import AsyncPostgresStore

    original = AsyncPostgresStore.advance
    trace = text(
        "INSERT INTO fsm.inbox (machine_id, name, payload, version, source, received_at) SELECT id, :name,"
        " jsonb_build_object('id', CAST(:id AS text)), 1, 'call', clock_timestamp() FROM fsm.machines WHERE key = :key"
    )

    async def advance(self: Any, machine: Any, key: Any, event: Any, **more: Any) -> Any:
        try:
            return await original(self, machine, key, event, **more)
        except Refused:
            async with self._engine.begin() as connection:
                await connection.execute(trace, {"name": type(event).__name__, "id": event.id, "key": key})
            raise

    put(AsyncPostgresStore, "advance", advance)


@does
def deaf_and_unwatched() -> None:
    """A consumer that asks the broker for nothing more, as some do after a connection that hung, and nobody who notices."""
    from kombu.transport.redis import MultiChannelPoller

    from workers.watchdog import Watchdog

    began, ask = time.monotonic(), MultiChannelPoller.on_poll_start

    def deaf(self: Any) -> None:
        if time.monotonic() < began + HEARS:
            ask(self)

    put(MultiChannelPoller, "on_poll_start", deaf)
    put(Watchdog, "start", lambda _self: None)


@does
def limit_not_counted() -> None:
    from fsm_core.postgres.statements import relay

    rewrite(
        relay, "ADMIT", ("least(500, l.max_running - t.taken,", "least(500, l.max_running + 0 * t.taken,")
    )
