"""What both checkers must refuse, line by line: each line that ends with `# expect` and no other."""

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from tests.typing.shop import (
    Charge,
    Charged,
    Charging,
    Declined,
    Event,
    New,
    Off,
    Other,
    Paid,
    Pay,
    Press,
    State,
    Tell,
    effects,
    lamp,
    orders,
    paid,
    pay,
)
from typing_extensions import assert_never

from fsm_core import (
    Attempt,
    Change,
    ChildEnded,
    Context,
    Effects,
    Failed,
    Machine,
    Send,
    Spawn,
    To,
    advance,
    begin,
    replay,
)
from fsm_core.postgres import AsyncPostgresStore, PostgresStore
from fsm_core.postgres.sharded import AsyncShardedStore, ShardedStore
from fsm_core.steps import Await, Done, Gather, Next, Replay, StepContext, Steps, Stop


def illegal_edges(ctx: Context) -> None:
    pay(Paid("r"), Pay("tok"))  # expect
    pay(New(1), Charged("r"))  # expect
    paid(Charging(1), Charged("r"))  # expect
    paid(Declined("no"), Charged("r"), ctx)  # expect


def another_machine() -> None:
    advance(orders, Off(), Pay("tok"))  # expect
    advance(orders, New(1), Press())  # expect
    advance(lamp, Off(), Pay("tok"))  # expect
    advance(orders, New(1), Failed(Tell("x")))  # expect
    begin(orders, Off())  # expect
    presses: list[Press] = [Press()]
    replay(orders, New(1), presses)  # expect
    advance(orders, New(1), Pay("tok")).actions.append(Press())  # expect


def stores(engine: Engine, aengine: AsyncEngine, session: AsyncSession) -> None:
    store = PostgresStore(engine)
    store.start(orders, 7, Off())  # expect
    store.advance(orders, 7, Press())  # expect
    store.advance(orders, 7, Pay)  # expect
    store.advance(orders, 1.5, Pay("tok"))  # expect
    store.advance(orders, 7, Pay("tok"), session=session)  # expect
    store.get(orders, 7).state.total  # expect
    store.get(lamp, 7).state.total  # expect
    PostgresStore(aengine)  # expect


async def async_stores(engine: AsyncEngine, session: Session) -> None:
    store = AsyncPostgresStore(engine)
    await store.start(orders, 7, Off())  # expect
    await store.advance(orders, 7, Press())  # expect
    await store.advance(orders, 7, Pay("tok"), session=session)  # expect
    (await store.get(orders, 7)).state.receipt  # expect


async def sharded_stores(one: ShardedStore, other: AsyncShardedStore, session: AsyncSession) -> None:
    one.start(orders, 7, Off())  # expect
    one.advance(orders, 7, Press())  # expect
    one.advance(orders, 7, Pay("tok"), session=session)  # expect
    one.get(orders, 7).state.total  # expect
    one.get(orders, 7, 8)  # expect
    await other.advance(orders, 7, Press())  # expect
    (await other.get(orders, 7)).state.receipt  # expect


def attributes(state: State, event: Event) -> None:
    state.code  # expect
    if isinstance(state, New):
        state.receipt  # expect
    if isinstance(event, Failed):
        event.action.text  # expect


def incomplete(state: State) -> str:
    match state:
        case New() | Charging():
            return "open"
        case Paid():
            return "paid"
    assert_never(state)  # expect


def incomplete_after_get(store: PostgresStore) -> None:
    match store.get(orders, 7).state:
        case New() | Charging() | Paid():
            pass
        case rest:
            assert_never(rest)  # expect


def bodies() -> None:
    @orders.on
    def a(state: New, event: Pay) -> To[Charging, Charge]:
        return Paid("r")  # expect

    @orders.on
    def b(state: New, event: Pay) -> To[Charging, Charge]:
        return Charging(1), [Tell("x")]  # expect

    @orders.on
    def c(state: New, event: Pay) -> Charging:
        return Charging(1), [Charge("c", 1)]  # expect

    @orders.enter
    def d(state: New) -> list[Tell]:
        return [Charge("c", 1)]  # expect


def other_resources() -> None:
    @effects.act  # expect
    def a(action: Charge, attempt: Attempt[Other]) -> None: ...

    @effects.act(timeout=3)  # expect
    def b(action: Charge, attempt: Attempt[Other]) -> None: ...

    @effects.probe  # expect
    def c(action: Charge, attempt: Attempt[Other]) -> None: ...

    Effects(orders, resources=Other)  # expect


def declarations() -> None:
    Machine("m", states=New, events=Pay, unhandled="drop")  # expect
    Machine("m", New, Pay)  # expect


def families(store: PostgresStore) -> None:
    Spawn(orders, "7", Off())  # expect
    Send(lamp, "hall", Pay("tok"))  # expect
    Send(orders, 1.5, Pay("tok"))  # expect
    ChildEnded("orders", "7", Paid("r")).state.total  # expect
    store.preview(orders, 7, Press())  # expect
    store.state_at(orders, 7, "3")  # expect
    Change("7", 1, None, New(1), Pay("tok"), Charging(1))  # expect


parent = Machine("parent", states=Off, events=ChildEnded[Paid] | Failed[Spawn], initial=Off())


@parent.on
def child_ended(state: Off, event: ChildEnded[Paid]) -> Off:
    event.state.total  # expect
    return state


@parent.on
def child_unborn(state: Off, event: Failed[Spawn]) -> To[Off, Spawn]:
    return state, [Send(lamp, "hall", Press())]  # expect


flow = Steps("flow", state=New, signals=Press)


def flows(store: PostgresStore, ctx: StepContext) -> None:
    store.start(flow, 7, Next("a", Off()))  # expect
    store.start(flow, 7, New(1))  # expect
    store.signal(flow, 7, Pay("tok"))  # expect
    ctx.signal(Press).code  # expect
    ctx.signal("Press")  # expect
    Next(7, New(1))  # expect
    Await(7, New(1))  # expect
    Replay(New(1), "soon")  # expect
    Gather([], New(1))  # expect
    Gather([Press()], New(1), "a")  # expect
    Done([1])  # expect
    Stop(7)  # expect
    Steps("flow", state=New(1))  # expect
    flow.step(limit_key=lambda data: data.nothing)  # expect


@flow.step
def holds(state: New) -> Next[New]:
    return Next(holds, Off())  # expect


@flow.step
def waits(state: New) -> Next[New]:
    return Await(Press, state)  # expect
