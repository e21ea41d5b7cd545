"""The outbox on PostgreSQL: delivery's two store ports, and the processes' own rows."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fsm_core.delivery.ports import Admitted, Claimed, Cursor, Move, Overdue, Published, Queue, Share
from fsm_core.delivery.retention import Pruned
from fsm_core.errors import Busy, DatabaseUnavailable, MachineEnded, MachineNotFound
from fsm_core.postgres import params
from fsm_core.postgres.ask import Ask, Row, run
from fsm_core.postgres.crash import Point, reached
from fsm_core.postgres.flows import prune as pruning
from fsm_core.postgres.flows.admission import admit, publish, publish_limited
from fsm_core.postgres.flows.advance import one
from fsm_core.postgres.flows.alone import alone
from fsm_core.postgres.flows.operate import cancel_machine
from fsm_core.postgres.low_water import ALL, LowWater
from fsm_core.postgres.own import Own
from fsm_core.postgres.statements import family, limits, machines, outbox, relay, upcast
from fsm_core.postgres.urls import shown
from fsm_core.types import ActionId, ActionStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import Engine

    from fsm_core.births import Address
    from fsm_core.delivery.ports import Deciding
    from fsm_core.delivery.retention import Retention
    from fsm_core.postgres.sealing import Cipher
    from fsm_core.unit import Seen, Unit

T = TypeVar("T")

CHILDREN_A_PASS = 100
"""How many children one look at a machine's children cancels."""

LOOK = "1s"
"""How long a look that is worth no more than that may take."""

LOCK_WAIT = "200ms"
"""Far below deadlock_timeout (1 s): if our order of locks meets the application's, it is the worker that yields."""


class PostgresOutbox:
    """The actions in PostgreSQL, for relay and worker processes. Every method raises StoreError if the database does.

    cipher: a worker's, where payloads are encrypted; a relay sees none, and needs no key.
    low_water: for the one relay that has it: passes over what is dead at the old end of a queue (`LowWater`).
    """

    def __init__(
        self, engine: Engine, schema: str = "fsm", *, cipher: Cipher | None = None, low_water: bool = False
    ) -> None:
        self.schema = schema
        self._due = LowWater() if low_water else None
        self._taken = LowWater() if low_water else None
        self._cipher = cipher
        self.where = shown(engine.url)
        self._own = Own(engine)

    # A worker's side

    def claim(self, worker: UUID, ids: Sequence[ActionId], ticket: UUID, claim: UUID) -> list[Claimed]:
        """See `WorkerStore.claim`."""
        parameters = {**params.keys(ids), "ticket": ticket, "claim": claim, "worker": worker}

        def reads(rows: list[Row]) -> list[Claimed]:
            return [Claimed(ActionId(*r[:3]), claim if r[14] is None else ticket, *r[3:]) for r in rows]

        ask = Ask(outbox.CLAIM, parameters, reads)
        try:
            return self._ask("claim", ask)
        except DatabaseUnavailable:
            # After a crash of the server each connection is dead that nobody used meanwhile, and a message that is dropped for that
            # waits for the reconciler. What the first one started, if it came through, goes back with the next heartbeat.
            return self._ask("claim", ask)

    def move(self, moves: Sequence[Move]) -> set[ActionId]:
        """See `WorkerStore.move`."""
        columns = ("mine", "delay", "step", "attempt_outcome", "in_doubt")
        parameters = {
            **params.keys([m.id for m in moves]),
            "want": [m.want.value for m in moves],
            "to": [m.to.value for m in moves],
            **{column: [getattr(m, column) for m in moves] for column in columns},
            **{f"m_{column}": [getattr(m, column) for m in moves] for column in ("outcome", "error", "note")},
        }
        return self._ask("move", Ask(outbox.MOVE, parameters, _ids))

    def read(self, machines_: Sequence[UUID]) -> dict[UUID, Seen]:
        """See `WorkerStore.read`."""

        def reads(rows: list[Row]) -> dict[UUID, Seen]:
            return {row[0]: params.seen(row) for row in rows}

        return self._ask("read machines", Ask(machines.READ_MANY, {"ids": list(machines_)}, reads))

    def write(self, units: Sequence[Unit]) -> set[int]:
        """See `WorkerStore.write`."""
        return self._ask("write", params.write_many(units))

    def write_alone(self, machine: UUID, decide: Deciding) -> bool:
        """See `WorkerStore.write_alone`."""

        async def flow() -> bool:
            await Ask(machines.LOCK_TIMEOUT, {"wait": LOCK_WAIT}, len)
            await Ask(machines.LOCK_ID, {"id": machine}, len)
            row = await Ask(machines.READ_MANY, {"ids": [machine]}, one)
            if row is None:
                return False
            held = await Ask(machines.INBOX, {"id": machine}, lambda rows: [params.held(r) for r in rows])
            return await alone(partial(decide, params.seen(row), held), write_many, own=True)

        try:
            with self._own.connected("finish") as connection, connection.transaction():
                return run(connection, self.schema, flow(), self._cipher)
        except Busy:
            return False

    def locate(self, addresses: Sequence[Address]) -> dict[Address, UUID]:
        """See `WorkerStore.locate`."""
        parameters = {"fsm": [fsm for fsm, _ in addresses], "key": [key for _, key in addresses]}

        def reads(rows: list[Row]) -> dict[Address, UUID]:
            return {(row[0], row[1]): row[2] for row in rows}

        return self._ask("locate machines", Ask(family.LOCATE, parameters, reads))

    def cancel_children(self, action: ActionId, note: str) -> bool:
        """See `WorkerStore.cancel_children`."""
        parameters = {"id": action.machine_id, "seq": action.seq, "idx": action.idx, "limit": CHILDREN_A_PASS}
        children: list[Row] = self._ask("look for children", Ask(family.CHILDREN, parameters, list))
        for fsm, key in children:
            try:
                with self._own.connected("cancel a child") as connection, connection.transaction():
                    run(connection, self.schema, _flow(Ask(machines.LOCK_TIMEOUT, {"wait": LOCK_WAIT}, len)))
                    run(connection, self.schema, cancel_machine(fsm, key, note), self._cipher)
            except (MachineEnded, MachineNotFound):
                continue
            except Busy:
                return False
        return len(children) < CHILDREN_A_PASS

    def mine(self, ids: Sequence[ActionId], tokens: Sequence[UUID]) -> dict[ActionId, ActionStatus]:
        """See `WorkerStore.mine`."""
        parameters = {**params.keys(ids), "mine": list(tokens)}

        def reads(rows: list[Row]) -> dict[ActionId, ActionStatus]:
            return {ActionId(*row[:3]): ActionStatus(row[3]) for row in rows}

        return self._ask("look for claims", Ask(outbox.MINE, parameters, reads))

    def late(self, action: ActionId, token: UUID, result: str) -> None:
        """See `WorkerStore.late`."""
        key = {
            "machine": action.machine_id,
            "seq": action.seq,
            "idx": action.idx,
            "token": token,
            "result": result,
        }
        self._ask("record a late result", Ask(outbox.LATE, key, len))

    # A relay's side

    def queues(self) -> Mapping[str, Queue]:
        """See `RelayStore.queues`."""

        def reads(rows: list[Row]) -> dict[str, Queue]:
            return {row[0]: Queue(row[1], row[2] and params.utc(row[2]), *row[3:]) for row in rows}

        return self._ask("queues", Ask(relay.QUEUES, {}, reads))

    def window(self, queue: str) -> int:
        """See `RelayStore.window`."""
        look = self._taken.look(queue) if self._taken else None
        parameters = {"queue": queue, "back": look.back if look else ALL}
        count, oldest = self._ask("window", Ask(relay.WINDOW, parameters, lambda rows: rows[0]))
        if self._taken and look:
            self._taken.found(queue, look, oldest)
        return int(count)

    def publish(self, queue: str, limit: int, ticket: UUID) -> list[Published]:
        """See `RelayStore.publish`."""
        look = self._due.look(queue) if self._due else None
        rows = self._ask("publish", publish(queue, limit, ticket, look.back if look else ALL))
        if self._due and look and len(rows) < limit:
            self._due.found(queue, look, None)
        if rows:
            reached(Point.RELAY_AFTER_MARK)
        return rows

    def unpublish(self, ids: Sequence[ActionId], ticket: UUID, note: str) -> None:
        """See `RelayStore.unpublish`."""
        if self._due:
            self._due.forget()
        self._ask(
            "unpublish", Ask(relay.UNPUBLISH, {**params.keys(ids), "ticket": ticket, "note": note}, len)
        )

    def publish_limited(self, queue: str, limit: int, ticket: UUID) -> Share:
        """See `RelayStore.publish_limited`."""
        with self._own.connected("publish") as connection, connection.transaction():
            return run(connection, self.schema, publish_limited(queue, limit, ticket))

    def admit(self, cursor: Cursor) -> Admitted:
        """See `RelayStore.admit`."""
        if not self._ask("admit", Ask(relay.BLOCKED, {}, bool)):
            return Admitted(0, Cursor())
        with self._own.connected("admit") as connection, connection.transaction():
            admitted = run(connection, self.schema, admit(cursor))
        if admitted.rows:
            reached(Point.RELAY_AFTER_ADMIT)
        return admitted

    def mark_dead(self, lease: timedelta) -> int:
        """See `RelayStore.mark_dead`."""
        dead = self._ask("mark dead workers", Ask(relay.MARK_DEAD, {"lease": lease}, len))
        if dead:
            reached(Point.RECONCILE_AFTER_DEAD)
        return dead

    def requeue_dead(self) -> int:
        """See `RelayStore.requeue_dead`."""
        requeued = self._ask("requeue", Ask(relay.REQUEUE_DEAD, {}, len))
        if requeued:
            reached(Point.RECONCILE_AFTER_REQUEUE)
        return requeued

    def overdue(self, queues: Sequence[str], patience: timedelta) -> list[Overdue]:
        """See `RelayStore.overdue`."""
        parameters = {"queues": list(queues), "patience": patience}

        def reads(rows: list[Row]) -> list[Overdue]:
            return [Overdue(ActionId(*r[:3]), r[3], r[4], params.utc(r[5]), *r[6:]) for r in rows]

        return self._ask("overdue", Ask(relay.OVERDUE, parameters, reads))

    def republish(self, rows: Sequence[Overdue]) -> set[ActionId]:
        """See `RelayStore.republish`."""
        parameters = {**params.keys([r.id for r in rows]), "ticket": [r.ticket for r in rows]}
        return self._ask("republish", Ask(relay.REPUBLISH, parameters, _ids))

    def next_due(self, queues: Sequence[str]) -> timedelta | None:
        """How long until the next row of `queues` becomes due (negative: it is); None: none waits."""
        seconds = self._ask(
            "next due", Ask(relay.NEXT_DUE, {"queues": list(queues)}, lambda rows: rows[0][0])
        )
        return None if seconds is None else timedelta(seconds=seconds)

    def forget_workers(self) -> None:
        """See `RelayStore.forget_workers`."""
        self._ask("forget workers", Ask(relay.FORGET_WORKERS, {}, len))
        self._ask("forget buckets", Ask(limits.FORGET_BUCKETS, {}, len))

    # The processes' own rows

    def register(
        self, worker: UUID, *, kind: str, host: str, pid: int, queues: Mapping[str, int],
        known: Mapping[str, Sequence[int]], lease: timedelta,
    ) -> None:  # fmt: skip
        """Say that a process is there; its lease begins."""
        parameters = {
            "id": worker, "kind": kind, "host": host, "pid": pid, "queues": json.dumps(dict(queues)),
            "known": json.dumps({k: list(v) for k, v in known.items()}), "lease": lease,
        }  # fmt: skip
        self._ask("register", Ask(relay.REGISTER, parameters, len))

    def beat(self, worker: UUID, lease: timedelta, claimed: Mapping[str, tuple[int, str, int]]) -> bool:
        """Extend the lease. Returns False if it was taken away: then every claim is void."""
        parameters = {"id": worker, "lease": lease, "claimed": json.dumps(claimed)}
        return self._ask("heartbeat", Ask(relay.BEAT, parameters, bool))

    def running(self, worker: UUID) -> list[tuple[ActionId, UUID]]:
        """What the database believes that this worker is running: actions with their claims."""

        def reads(rows: list[Row]) -> list[tuple[ActionId, UUID]]:
            return [(ActionId(*row[:3]), row[3]) for row in rows]

        return self._ask("running", Ask(relay.RUNNING, {"id": worker}, reads))

    def retire(self, worker: UUID) -> None:
        """Give the lease back, at a graceful end."""
        self._ask("retire", Ask(relay.RETIRE, {"id": worker}, len))

    def unread(self, known: Mapping[str, Sequence[int]]) -> list[tuple[str, int]]:
        """Names and versions of live machines that neither `known` nor a living worker reads; a sample, and within a second."""

        async def flow() -> list[tuple[str, int]]:
            await Ask(upcast.LOOK_TIMEOUT, {"wait": LOOK}, len)
            parameters = {"known": json.dumps({name: list(versions) for name, versions in known.items()})}
            found: list[tuple[str, int]] = await Ask(
                upcast.UNREAD, parameters, lambda rows: [row[:2] for row in rows]
            )
            return found

        with (
            self._own.connected("look for machines that nobody reads") as connection,
            connection.transaction(),
        ):
            return run(connection, self.schema, flow())

    def prune(self, retention: Retention) -> Pruned:
        """See `Prunes.prune`."""
        total = Pruned()
        for flow in pruning.slices(retention):
            with self._own.connected("prune") as connection, connection.transaction():
                total = total.plus(run(connection, self.schema, flow()))
        return total

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._own.close()

    def _ask(self, doing: str, ask: Ask[T]) -> T:
        with self._own.connected(doing) as connection:
            return run(connection, self.schema, _flow(ask), self._cipher)


async def write_many(unit: Unit) -> bool:
    """Write one unit by the statement for many: it finishes actions."""
    return bool(await params.write_many([unit]))


async def _flow(ask: Ask[T]) -> T:
    return await ask


def _ids(rows: list[Row]) -> set[ActionId]:
    return {ActionId(*row[:3]) for row in rows}
