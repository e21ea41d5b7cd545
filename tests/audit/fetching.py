"""A machine with everything that leaves a trace: own actions in lanes and not, timers, a state timeout, `enter`, `restore`."""

from dataclasses import dataclass, replace

from fsm_core import After, Cancel, Context, Effects, Failed, Machine, NotDone, Rejected, Route, To, Untracked
from fsm_core.registry import AnyMachine


@dataclass(frozen=True)
class Item:
    name: str
    price: float = 1.0


@dataclass(frozen=True)
class Idle:
    total: float = 0.0


@dataclass(frozen=True)
class Busy:
    items: tuple[Item, ...]
    total: float = 0.0


@dataclass(frozen=True)
class Over:
    total: float = 0.0


@dataclass(frozen=True)
class Go:
    name: str
    price: float = 1.0


@dataclass(frozen=True)
class Got:
    name: str


@dataclass(frozen=True)
class Nag:
    pass


@dataclass(frozen=True)
class Stop:
    pass


@dataclass(frozen=True)
class Fetch:
    name: str
    price: float


@dataclass(frozen=True)
class Tell:
    text: str


def build(  # noqa: C901 - a machine, one function after another
    *,
    version: int = 1,
    tax: float = 0.0,
    tip: float = 0.0,
    refuses: str = "",
    most: int = 9,
    restores: bool = True,
) -> AnyMachine:
    """The machine.

    tax: on what `Fetch` carries. tip: on what `Got` adds to the state. refuses: an item that `Go` rejects. most: items that the
    invariant allows. restores: whether `restore` is declared.
    """
    fetching = Machine(
        "fetching",
        states=Idle | Busy | Over,
        events=Go | Got | Nag | Stop | Failed[Fetch],
        actions=Fetch | Untracked[Tell],
        initial=Idle(),
        final=Over,
        version=version,
    )

    @fetching.on
    def go(state: Idle | Busy, event: Go) -> To[Busy, Fetch | After]:
        if event.name == refuses:
            raise Rejected(f"no {refuses} today")
        items = (*(state.items if isinstance(state, Busy) else ()), Item(event.name, event.price))
        return Busy(items, state.total), [Fetch(event.name, event.price + tax), After(60, Nag(), name="nag")]

    @fetching.on
    def got(state: Busy, event: Got) -> To[Busy | Idle, Cancel]:
        (item,) = [item for item in state.items if item.name == event.name]
        rest, total = (
            tuple(other for other in state.items if other is not item),
            state.total + item.price + tip,
        )
        return Busy(rest, total) if rest else (Idle(total), [Cancel("nag")])

    @fetching.on
    def failed(state: Busy, event: Failed[Fetch]) -> Busy:
        return replace(state, items=tuple(i for i in state.items if i.name != event.action.name))

    @fetching.on
    def nag(state: Busy, event: Nag) -> To[Busy, Tell]:
        return state, [Tell(f"{len(state.items)} are missing")]

    @fetching.on
    def stop(state: Idle | Busy, event: Stop) -> Over:
        return Over(state.total)

    @fetching.timeout(after=3600)
    def tired(state: Busy) -> Over:
        return Over(state.total)

    @fetching.enter
    def begun(state: Busy, ctx: Context) -> list[Tell]:
        return [Tell(f"{ctx.key} at {ctx.now}: {ctx.random.random()} {ctx.uuid()}")]

    @fetching.route
    def where(action: Fetch) -> Route:
        lane = action.name.partition(":")
        return Route(queue="fetch", priority=3, partition_key=lane[0] if lane[1] else None)

    @fetching.invariant
    def few(state: Busy) -> bool:
        return len(state.items) <= most

    if restores:

        @fetching.restore
        def still(state: Idle | Busy) -> list[Fetch]:
            return [Fetch(i.name, i.price + tax) for i in state.items] if isinstance(state, Busy) else []

    return fetching


fetching = build()


def effects(machine: AnyMachine, ran: list[str], happened: tuple[str, ...] = ()) -> Effects[None]:
    """Effects that write down what they were asked. happened: what the probe says has been fetched."""
    made: Effects[None] = Effects(machine)

    @made.act
    def fetch(action: Fetch) -> Got:
        ran.append(f"fetch {action.name}")
        return Got(action.name)

    @made.probe
    def fetched(action: Fetch) -> Got | NotDone:
        ran.append(f"probe {action.name}")
        return Got(action.name) if action.name in happened else NotDone()

    @made.act
    def tell(action: Tell) -> None:
        ran.append("tell")

    return made
