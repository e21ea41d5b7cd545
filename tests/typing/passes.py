"""What must type-check: under mypy --strict and pyright strict."""

from datetime import UTC, datetime
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from tests.typing.shop import (
    Action,
    Charge,
    Charged,
    Charging,
    Declined,
    Event,
    New,
    Off,
    Paid,
    Pay,
    Payments,
    Press,
    State,
    Tell,
    charge,
    effects,
    lamp,
    orders,
    paid,
    pay,
)
from typing_extensions import assert_never, assert_type

from fsm_core import (
    Attempt,
    CancelChildren,
    Change,
    ChildEnded,
    Context,
    Decision,
    Effects,
    Failed,
    Join,
    Machine,
    NotDone,
    Retry,
    Route,
    Send,
    Snapshot,
    Spawn,
    To,
    advance,
    begin,
    replay,
)
from fsm_core.postgres import AsyncPostgresStore, PostgresStore
from fsm_core.postgres.sharded import AsyncShardedStore, ShardedStore
from fsm_core.steps import Await, Done, Gather, Next, Replay, StepContext, Steps, Stop

CTX = Context(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1), "7", 0)


def inference() -> None:
    assert_type(orders, Machine[State, Event, Action])
    decision = advance(orders, New(42), Pay("tok"))
    assert_type(decision, Decision[State, Charge | Tell])
    assert_type(decision.state, State)
    assert_type(decision.actions, list[Charge | Tell])
    state, actions = begin(orders, New(42))
    assert_type(state, State)
    events: list[Event] = [Pay("tok"), Charged("r"), Failed(Charge("c", 1), "no", 3)]
    replay(orders, New(42), events, CTX)
    replay(orders, New(42), events, [CTX, CTX, CTX])
    advance(orders, state, Failed(Charge("c", 1), "no", 3))
    assert_type(advance(lamp, Off(), Press()).state, Off)
    assert actions == []


def edges_are_functions() -> None:
    assert_type(pay(New(1), Pay("tok")), To[Charging, Charge])
    assert paid(Charging(1), Charged("r"), CTX) == (Paid("r"), [])


def name(state: State) -> str:
    match state:
        case New() | Charging():
            return "open"
        case Paid(receipt):
            return receipt
        case Declined(reason):
            return reason
    assert_never(state)


def told(event: Event) -> str:
    match event:
        case Pay(card) | Failed(action=Charge(card=card)):
            return card
        case Charged(receipt):
            return receipt
    assert_never(event)


def stores(
    engine: Engine, session: Session, connection: Connection, raw: psycopg.Connection[tuple[object, ...]]
) -> None:
    store = PostgresStore(engine, machines=[orders, lamp, effects])
    assert_type(store.get(orders, 7), Snapshot[State])
    assert_type(store.start(orders, state=New(1)).key, str)
    assert_type(store.advance(orders, UUID(int=1), Pay("tok"), dedup_key="evt", session=session).state, State)
    store.advance(orders, "7", Charged("r"), expected_seq=3, session=connection)
    store.start(lamp, "hall", session=raw)
    assert name(store.get(orders, 7).state)
    state = store.get(orders, 7).state
    match state:
        case New(total) | Charging(total):
            assert total
        case Paid() | Declined():
            pass
        case _:
            assert_never(state)


async def async_stores(
    engine: AsyncEngine,
    session: AsyncSession,
    connection: AsyncConnection,
    raw: psycopg.AsyncConnection[tuple[object, ...]],
) -> None:
    store = AsyncPostgresStore(engine)
    assert_type(await store.get(orders, 7), Snapshot[State])
    assert_type((await store.start(orders, 7, New(1), session=raw)).state, State)
    await store.advance(orders, 7, Pay("tok"), session=session)
    await store.advance(orders, 7, Pay("tok"), session=connection)


async def sharded_stores(
    one: ShardedStore, other: AsyncShardedStore, session: Session, transaction: AsyncSession
) -> None:
    assert_type(one.get(orders, key=7), Snapshot[State])
    assert_type(one.advance(orders, 7, Pay("tok"), dedup_key="evt", session=session).state, State)
    assert_type(one.start(orders, state=New(1)).key, str)
    assert_type((await other.get(orders, 7)).state, State)
    await other.advance(orders, 7, event=Pay("tok"), session=transaction)


def declarations() -> None:
    assert_type(effects, Effects[Payments])
    mine = Machine("mine", states=New | Paid, events=Pay, actions=Charge, unhandled="defer", ordered=True)

    @mine.on
    def a(_state: New, _event: Pay) -> To[Paid]:
        return Paid("r"), [Charge("c", 1)]

    @mine.enter
    def b(state: Paid) -> list[Charge]:
        return []

    @mine.route
    def c(action: Charge) -> Route:
        return Route(queue="money", priority=1)

    own = Effects(mine)

    @own.act
    def d(action: Charge) -> None: ...

    @own.probe
    def e(action: Charge, attempt: Attempt[None]) -> Pay | NotDone:
        return NotDone()

    @effects.act(retry=Retry(max_attempts=3), timeout=1.5)
    def f(action: Tell, attempt: Attempt[Payments]) -> list[Charged]:
        return [Charged(attempt.resources.charge("c", 1, attempt.idempotency_key))]

    assert_type(a(New(1), Pay("tok")), To[Paid])
    assert_type(b(Paid("r")), list[Charge])
    assert_type(c(Charge("c", 1)), Route)
    assert_type(d(Charge("c", 1)), None)
    assert [e, f, charge]


Parent = Off | Paid
parent = Machine(
    "parent", states=Parent, events=Press | ChildEnded[Paid | Declined] | Failed[Spawn], initial=Off()
)


@parent.on
def born(state: Off, _event: Press, ctx: Context) -> To[Off, Spawn | Send]:
    children = [Spawn(orders, f"{ctx.key}-{n}", New(n)) for n in range(3)]
    join = Join.of(2, children)
    assert_type(join.met, bool)
    return state, [*children, Send(lamp, "hall", Press()), Send("lamp", 7, Press())]


@parent.on
def child_ended(state: Off, event: ChildEnded[Paid | Declined]) -> To[Parent, CancelChildren]:
    assert_type(event.state, Paid | Declined)
    return (event.state, [CancelChildren()]) if isinstance(event.state, Paid) else state


@parent.on
def child_unborn(state: Off, event: Failed[Spawn]) -> Off:
    assert_type(event.action, Spawn)
    return state


@parent.invariant
def sound(state: Off) -> bool:
    return state == Off()


@parent.project
def rows(change: Change[Parent, Press]) -> list[object]:
    assert_type(change.after, Parent)
    assert_type(change.before, Parent | None)
    return []


@orders.upcast(1, "Charging")
def charging(old: Off) -> Charging:
    return Charging(0)


def looking(store: PostgresStore) -> None:
    assert_type(store.preview(orders, 7, Pay("tok")), Decision[State, Charge | Tell])
    assert_type(store.state_at(orders, 7, 3), Snapshot[State])


flow = Steps("flow", state=New, signals=Press | Tell, children=orders)


@flow.step
def first(state: New, ctx: StepContext[Payments]) -> Await[New] | Next[New] | Gather[New] | Done:
    assert_type(ctx.signal(Press), Press | None)
    assert_type(ctx.resources, Payments)
    if ctx.timed_out:
        return Await([Press, Tell], state, timeout=3, then=second)
    if ctx.children:
        return Gather([Spawn(orders, None, New(1))], state, then="second", need=1)
    return Next(second, state) if ctx.signals else Done({"a": [1]})


@flow.step(timeout=3, queue="slow", limit="api", limit_key=lambda data: str(data.total))
async def second(state: New) -> Replay[New] | Stop:
    return Replay(state, delay=1.5) if state.total else Stop("no")


@flow.on_error
def failed(reason: Exception, state: New, ctx: StepContext) -> Replay[New]:
    assert_type(ctx.resources, object)
    return Replay(state)


@flow.upcast(1, "New")
def older(old: Off) -> New:
    return New(1)


def flows(store: PostgresStore) -> None:
    assert_type(flow, Steps[New, Press | Tell])
    store.start(flow, 7, Next(first, New(1)))
    store.start(flow, 7, Await(Press, New(1), then=first))
    store.signal(flow, 7, Press(), dedup_key="evt-7")
    state = store.get(flow, 7).state
    assert_type(state, Next[New] | Replay[New] | Await[New] | Gather[New] | Done | Stop)
    if isinstance(state, Next):
        assert_type(state.state, New)
    silent = Steps("silent", state=New)
    store.start(silent, 7, Next("a", New(1)))
