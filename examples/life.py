"""A life is gestating, alive or dead: three types, and the only ways from one to another are the three functions below.

An illegal edge does not type-check, and is refused at run time. Source: mars' persistent-state-machine, whose edges are
`From` impls on the same three types. Run it, without any server: `python examples/life.py`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fsm_core import Context, Machine, UnhandledEvent
from fsm_core.memory import Clock, MemoryStore


@dataclass(frozen=True)
class Gestating:
    """Not born yet."""


@dataclass(frozen=True)
class Alive:
    born_at: datetime


@dataclass(frozen=True)
class Dead:
    died_at: datetime
    born_at: datetime | None = None


@dataclass(frozen=True)
class Birth:
    pass


@dataclass(frozen=True)
class Death:
    pass


State = Gestating | Alive | Dead
Event = Birth | Death

life = Machine(
    "life",
    states=State,
    events=Event,
    initial=Gestating(),
    final=Dead,
    accept={"waits-for-ever": "nobody knows the day nor the hour"},
)


@life.on
def be_born(_state: Gestating, _event: Birth, ctx: Context) -> Alive:
    return Alive(ctx.now)  # the recorded time of the event: a replay gives the same


@life.on
def die_unborn(_state: Gestating, _event: Death, ctx: Context) -> Dead:
    return Dead(ctx.now)


@life.on
def die(state: Alive, _event: Death, ctx: Context) -> Dead:
    return Dead(ctx.now, state.born_at)


def main() -> None:
    store = MemoryStore(clock=Clock(datetime(1815, 3, 15, tzinfo=UTC)))
    store.start(life, "ada")
    store.clock.advance(timedelta(days=270))
    born = store.advance(life, "ada", Birth())
    print(born.state)
    store.clock.advance(timedelta(days=13_500))
    died = store.advance(life, "ada", Death())
    print(died.state)
    assert died.state == Dead(store.clock.now(), born.updated_at)
    assert (died.created_at, died.ended_at, died.status) == (born.created_at, store.clock.now(), "done")

    for key, event in (("ada", Birth()), ("ada", Death())):
        try:
            store.advance(life, key, event)
        except UnhandledEvent as refusal:
            print(refusal)
    assert store.get(life, "ada") == died  # a refused event changes nothing

    store.start(life, "nobody")
    unborn = store.advance(life, "nobody", Death()).state
    assert isinstance(unborn, Dead)
    assert unborn.born_at is None
    print([(record.key, record.state_name) for record in store.machines("life", status="done")])


if __name__ == "__main__":
    main()
