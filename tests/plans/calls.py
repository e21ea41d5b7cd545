"""Every verb that runs a hot statement, called as its users call it, on parcels that are there."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

import psycopg
from sqlalchemy import Engine

from fsm_core.delivery.finish import finish, finish_alone
from fsm_core.delivery.outcome import Completed, Result
from fsm_core.delivery.ports import Claimed, Cursor, Move, Overdue
from fsm_core.delivery.retention import Retention
from fsm_core.payload import Limits
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.ask import Ask
from fsm_core.postgres.flows import prune as pruning
from fsm_core.postgres.flows.upcast import Upcasting
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.statements import Statement, machines, relay, waiting
from fsm_core.postgres.statements import prune as pruned
from fsm_core.registry import Registry
from fsm_core.types import ActionId, ActionStatus
from tests.plans.parcels import Deliver, newer, parcel
from tests.plans.parcels import Move as Moved

MANY = 100
"""How many machines a caller's group has."""

GROUP = 50
"""How many actions a worker's group has: as many as one message names."""

MONTH = timedelta(days=30)

QUIET = """SELECT key FROM fsm.machines m WHERE status = 'live' AND inbox = 0 AND NOT EXISTS (SELECT 1 FROM fsm.actions a WHERE a.machine_id = m.id AND a.status = 'failed') AND parent IS NULL AND seq = 4
 AND NOT EXISTS (SELECT 1 FROM fsm.machines c WHERE c.parent = m.id) ORDER BY id DESC LIMIT 1000"""
HOLDING = "SELECT key FROM fsm.machines WHERE status = 'live' AND inbox = 1 ORDER BY id LIMIT 10"
PARENTS = """SELECT p.key FROM fsm.machines c JOIN fsm.machines p ON p.id = c.parent
 WHERE c.status = 'live' AND p.status = 'live' ORDER BY p.id LIMIT 10"""
ACTION = """SELECT a.machine_id, a.seq, a.idx FROM fsm.actions a JOIN fsm.machines m ON m.id = a.machine_id
 WHERE m.fsm = 'parcel' AND m.key = %s AND a.name = %s AND a.status = %s LIMIT 1"""
FAILED = "SELECT machine_id, seq, idx FROM fsm.actions WHERE status = 'failed' LIMIT 1"


@dataclass
class Calls:
    """The verbs of an application (`store`), and those of relays and workers (`outbox`)."""

    url: str
    application: Engine
    own: Engine
    keys: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.store = PostgresStore(self.application, machines=[parcel, newer])
        self.outbox = PostgresOutbox(self.own)
        self.registry = Registry([parcel, newer])
        self.run = uuid4().hex
        self.keys = [row[0] for row in self.sql(QUIET)]

    def idle(self) -> None:
        """What relays and workers ask on the first day, when there is nothing: their plans are made then, and kept."""
        outbox, nobody = self.outbox, uuid4()
        ids, token = [ActionId(nobody, 1, 0)], uuid4()
        outbox.queues()
        outbox.next_due(["default"])
        outbox.window("default")
        outbox._ask("admit", Ask(relay.ADMIT, Cursor()._asdict(), len))
        outbox.publish("default", GROUP, token)
        outbox.unpublish(ids, token, "")
        outbox.mark_dead(timedelta(seconds=30))
        outbox.requeue_dead()
        outbox.republish([Overdue(ids[0], token, "default", datetime.now(UTC), 0, "parcel", "Carry")])
        outbox.overdue(["default"], timedelta(seconds=5))
        outbox.prune(Retention(MONTH, MONTH * 2))
        for statement in (
            pruned.CUT,
            pruned.SNAPSHOT,
            pruned.MARK,
            pruned.AT_REST,
            pruned.FORGET,
            pruned.EXPIRE,
        ):
            outbox._ask(
                "prune", Ask(statement, {"ids": [nobody], "bases": [1], "age": MONTH, "ended": True}, len)
            )
        outbox.claim(nobody, ids, token, uuid4())
        outbox.mine(ids, [token])
        outbox.move([Move(ids[0], ActionStatus.RUNNING, token, ActionStatus.PENDING)])
        outbox.late(ids[0], token, "{}")
        outbox.read([nobody])
        outbox.write([])
        outbox.running(nobody)
        outbox.locate([("parcel", "nobody")])
        outbox.cancel_children(ids[0], "")

    def requests(self) -> None:
        """What web requests do."""
        store = self.store
        one, timed, spawning = self._take(3)
        store.get(parcel, one)
        store.advance(parcel, one, Moved())
        for _ in range(2):
            store.advance(parcel, one, Moved(), dedup_key="evt-new")
        for event in (Moved("timer"), Moved("timer"), Deliver()):
            store.advance(parcel, timed, event)
        store.advance(parcel, spawning, Moved("child", self.name("child")))
        store.advance(parcel, self.sql(HOLDING)[0][0], Moved())
        for _ in range(2):
            store.start(parcel, self.name("new"))
        store.signal(parcel, self.name("early"), Moved(), dedup_key="evt-early")
        store.signal(parcel, self.name("early"), Moved())
        store.start(parcel, self.name("early"))
        store.signal_or_start(parcel, self.name("other"), Moved())
        capped = PostgresStore(self.application, limits=Limits(events=100, open=100))
        capped.advance(parcel, one, Moved(), dedup_key="evt-capped")
        capped.advance_many(parcel, [(key, Moved()) for key in self._take(MANY)])
        seen = store.get(parcel, one)
        self._ask(machines.SOUGHT, {"id": seen.id, "from": seen.seq, "call_id": uuid4()})
        self._ask(waiting.ENDED, {"ids": [seen.id]})

    def many(self) -> None:
        """What a caller does with many machines, and in a transaction of its own."""
        store = self.store
        store.advance_many(parcel, [(key, Moved()) for key in self._take(MANY)])
        store._group([store._call(parcel, key, Moved(), "evt-many") for key in self._take(MANY)])
        with self.application.connect() as connection, connection.begin():
            store.advance(parcel, self._take(1)[0], Moved(), session=connection)
            store.advance_many(parcel, [(key, Moved()) for key in self._take(MANY)], session=connection)

    def operators(self) -> None:
        """What people look at and repair."""
        store = self.store
        key, gone, other = self._take(3)
        store.history(parcel, key)
        store.explain(parcel, key)
        store.state_at(parcel, key, 0)
        page = store.logs()
        store.orphans(page[0].seen.id, page[-1].seen.id)
        failed = ActionId(*self.sql(FAILED)[0])
        store.action(failed)
        store.retry([failed])
        store.cancel(parcel, gone)
        store.cancel_action(self._action(other, "Carry", "pending"))
        work = Upcasting(Registry([newer]), newer, store._limits, dry_run=False, every=True, progress=None)
        for flow in islice(work.flows(), 1):
            store._once(work.what, flow, opening=store._lock_timeout)
        self._ask(pruned.PAGE, {"after": page[0].seen.id, "limit": 500})
        cutting = partial(pruning.live, MONTH, [each.seen.id for each in page])
        store._once("prune", cutting, opening=store._lock_timeout)

    def relays(self) -> None:
        """What a relay does in its ticks."""
        outbox, ticket = self.outbox, uuid4()
        outbox.queues()
        outbox.next_due(["default", "bounded"])
        outbox.window("default")
        outbox.admit(Cursor())
        rows = outbox.publish("default", GROUP, ticket)
        outbox.publish("nobody's", GROUP, ticket)
        outbox.unpublish([row.id for row in rows], ticket, "the broker did not answer")
        outbox.publish("default", 2000, uuid4())
        outbox.publish_limited("bounded", GROUP, ticket)
        outbox.mark_dead(timedelta(seconds=30))
        outbox.requeue_dead()
        late = outbox.overdue(["default"], timedelta(seconds=5))
        outbox.republish(late[:GROUP])
        outbox.forget_workers()
        for _ in range(2):
            outbox.prune(Retention(MONTH, MONTH * 2))

    def workers(self) -> None:
        """What a worker does with a message, and with what comes of it."""
        outbox, me, hour = self.outbox, uuid4(), timedelta(hours=1)
        outbox.register(
            me, kind="node", host="h", pid=1, queues={"default": 8}, known={"parcel": [1]}, lease=hour
        )
        first, again, *rest = self._claimed(me)
        outbox.beat(me, hour, {})
        outbox.running(me)
        outbox.mine([first.id, again.id], [first.token, again.token])
        outbox.move(
            [Move(again.id, ActionStatus.RUNNING, again.token, ActionStatus.PENDING, attempt_outcome="error")]
        )
        outcomes = [Result(each, Completed((Moved(),) if n % 2 else ())) for n, each in enumerate(rest)]
        self._finish([*outcomes, Result(first, Completed((Moved("child", self.name("second")),)))])
        outbox.late(first.id, first.token, '{"events": []}')
        outbox.retire(me)

    def families(self) -> None:
        """What a worker does with messages to other machines, and with children."""
        outbox, store, me = self.outbox, self.store, uuid4()
        sender, receiver = self._take(2)
        store.advance(parcel, sender, Moved("message", receiver))
        self.sql("UPDATE fsm.actions SET priority = 0 WHERE name = 'Send' AND status = 'pending'")
        self._finish([Result(each, Completed()) for each in self._claimed(me) if each.action == "Send"])
        parent = self.sql(PARENTS)[0][0]
        store.cancel(parcel, parent)
        outbox.cancel_children(self._action(parent, "CancelChildren", "pending"), "its parent was cancelled")

    def name(self, key: str) -> str:
        """The key of a parcel that was not there before these calls."""
        return f"{key}-{self.run}"

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Beside them all, unheard."""
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def _take(self, count: int) -> list[str]:
        """Keys of parcels that no call has had yet."""
        taken, self.keys = self.keys[:count], self.keys[count:]
        return taken

    def _claimed(self, me: UUID) -> list[Claimed]:
        ticket = uuid4()
        rows = self.outbox.publish("default", GROUP, ticket)
        return self.outbox.claim(me, [row.id for row in rows], ticket, uuid4())

    def _finish(self, results: list[Result]) -> None:
        """Together, and one by one what takes more than a group can do."""
        finished = finish(self.outbox, self.registry, results)
        singly = [finish_alone(self.outbox, self.registry, each) for each in finished.alone]
        done = sum(len(each.done) for each in (finished, *singly))
        assert done == len(results) > 0, f"{done} of {len(results)}"

    def _action(self, key: str, name: str, status: str) -> ActionId:
        return ActionId(*self.sql(ACTION, key, name, status)[0])

    def _ask(self, statement: Statement, parameters: dict[str, object]) -> None:
        async def flow() -> int:
            return await Ask(statement, parameters, len)

        self.store._once("ask", flow)


EVERYTHING = ("requests", "many", "operators", "relays", "workers", "families")
"""The calls, in an order in which each finds what it needs."""
