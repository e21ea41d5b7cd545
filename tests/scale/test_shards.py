"""Several databases behind one store: the key says where a machine lives, and that is the only place where it is looked for."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from inspect import getmembers, iscoroutinefunction, isfunction, signature
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from fsm_core.delivery.finish import finish, finish_alone
from fsm_core.delivery.outcome import Completed, Result
from fsm_core.delivery.retention import Retention
from fsm_core.errors import (
    ActionNotFound,
    ConfigurationError,
    MachineNotFound,
    UnsupportedConnection,
    WrongStatus,
)
from fsm_core.postgres import AsyncPostgresStore, PostgresStore
from fsm_core.postgres.outbox import PostgresOutbox
from fsm_core.postgres.sharded import AsyncShardedStore, Places, ShardedStore
from fsm_core.records import Snapshot
from fsm_core.registry import Registry
from fsm_core.types import ActionId
from tests.plans.parcels import Deliver, Packed, parcel
from tests.plans.parcels import Move as Moved
from tests.store.world import WORLDS, Blocking, PostgresWorld
from workers.shards import read

KEYS = [f"order-{n}" for n in range(40)]


class Shards(NamedTuple):
    """A store over two databases; each by itself; and the engines of their relays and workers."""

    store: Any
    each: dict[str, PostgresWorld]
    engines: dict[str, Engine]

    def over(self, *names: str, former: tuple[tuple[str, ...], ...] = ()) -> Any:
        """Another store, over some of them."""
        return over({name: self.each[name] for name in names}, former=former)


def at(name: str, count: int = 1) -> list[str]:
    """Keys that live there."""
    places = Places(("a", "b"))
    return [key for key in KEYS if places.home(key) == name][:count]


def over(worlds: dict[str, PostgresWorld], former: tuple[tuple[str, ...], ...] = ()) -> Any:
    stores = {name: world.store for name, world in worlds.items()}
    if not isinstance(next(iter(stores.values())), Blocking):
        return ShardedStore(stores, former=former)
    loop = next(iter(stores.values()))._loop
    return Blocking(
        AsyncShardedStore({name: each._store for name, each in stores.items()}, former=former), loop
    )


@pytest.fixture(params=sorted(WORLDS))
def shards(request: pytest.FixtureRequest, engine: Engine, second_engine: Engine) -> Iterator[Shards]:
    engines = {"a": engine, "b": second_engine}
    with ExitStack() as stack:
        each = {
            name: stack.enter_context(
                WORLDS[request.param](e.url.render_as_string(hide_password=False), machines=[parcel])
            )
            for name, e in engines.items()
        }
        yield Shards(over(each), each, engines)


def test_machines_are_spread_and_found(shards: Shards) -> None:
    """Each on one shard, by its key; every verb finds it there."""
    store = shards.store
    for key in KEYS:
        store.start(parcel, key)

    here = {name: {r.key for r in world.store.machines(limit=100)} for name, world in shards.each.items()}
    assert here["a"] | here["b"] == set(KEYS)
    assert not here["a"] & here["b"]
    assert min(len(keys) for keys in here.values()) > 5
    for key in (*at("a"), *at("b")):
        assert store.start(parcel, key).duplicate
        assert store.advance(parcel, key, Moved(), dedup_key="once").seq == 1
        assert store.advance(parcel, key, Moved(), dedup_key="once").duplicate
        assert store.signal(parcel, key, Moved()).seq == 2
        assert store.get(parcel, key).state == Packed(2)
        assert [e.seq for e in store.history("parcel", key)] == [0, 1, 2]
        assert store.record(parcel, key).seq == 2
        assert len(store.explain(parcel, key).actions) == 2
        store.advance(parcel, key, Deliver())
        assert store.wait(parcel, key, timeout=10).ended_at is not None
    with pytest.raises(MachineNotFound):
        store.get(parcel, "nobody")
    assert store.signal(parcel, "early", Moved()).unborn
    assert store.signal_or_start(parcel, "early", Moved()).seq == 2


def test_many_are_split_and_joined_in_their_order(shards: Shards) -> None:
    """One answer for each, where it was asked for; a machine's own events keep their order."""
    store = shards.store
    for key in KEYS:
        store.start(parcel, key)
    asked = [(key, Moved()) for key in (*KEYS, "nobody", *reversed(KEYS))]

    answers = store.advance_many(parcel, asked)

    assert [getattr(each, "key", None) for each in answers] == [key for key, _ in asked]
    assert [each.seq for each in answers if isinstance(each, Snapshot)] == [1] * 40 + [2] * 40
    assert isinstance(answers[40], MachineNotFound)
    assert store.advance_many(parcel, []) == []


def test_lists_are_of_all_shards(shards: Shards) -> None:
    """Merged in the order of one store, and cut at the limit."""
    store = shards.store
    for key in KEYS[:10]:
        store.start(parcel, key)
        store.advance(parcel, key, Moved())

    assert [r.key for r in store.machines(limit=4)] == [*reversed(KEYS[:10])][:4]
    assert [a.created_at for a in store.actions()] == sorted(a.created_at for a in store.actions())
    assert len(store.actions()) == 10
    assert len(store.actions(limit=3)) == 3
    assert len(store.machines("parcel", status="live")) == 10


def test_an_action_is_found_wherever_it_is(shards: Shards) -> None:
    """Its id does not say where; each shard is asked."""
    store = shards.store
    for key in (*at("a"), *at("b")):
        store.start(parcel, key)
        store.advance(parcel, key, Moved())
    ids = [action.id for action in store.actions()]
    for each in ids:
        assert store.action(each).id == each
        store.cancel_action(each)
        with pytest.raises(WrongStatus):
            store.retry([each])
    assert store.retry(ids) == []
    for world in shards.each.values():
        world.sql("UPDATE fsm.actions SET status = 'failed'")
    assert sorted(store.retry(ids)) == sorted(ids)
    with pytest.raises(ActionNotFound):
        store.action(ActionId(uuid4(), 1, 0))


def test_a_transaction_is_of_one_shard(engine: Engine, second_engine: Engine) -> None:
    """The caller's own, if the machine lives there; another's is refused, and nothing is written."""
    engines = {"a": engine, "b": second_engine}
    store = ShardedStore({name: PostgresStore(each, machines=[parcel]) for name, each in engines.items()})
    (one, two, fresh), (there, other) = at("a", 3), at("b", 2)
    for key in (one, two, there):
        store.start(parcel, key)
    with Session(engine) as session, session.begin():
        store.start(parcel, fresh, session=session)
        store.advance(parcel, one, Moved(), session=session)
        store.advance_many(parcel, [(one, Moved()), (two, Moved())], session=session)
        store.signal(parcel, two, Moved(), session=session)
        for refused in (
            lambda: store.advance(parcel, there, Moved(), session=session),
            lambda: store.start(parcel, other, session=session),
            lambda: store.signal(parcel, there, Moved(), session=session),
            lambda: store.advance_many(parcel, [(one, Moved()), (there, Moved())], session=session),
        ):
            with pytest.raises(
                UnsupportedConnection, match="lives on shard b, and session= is a transaction of"
            ):
                refused()

    assert [store.get(parcel, key).seq for key in (one, two, there, fresh)] == [2, 2, 0, 0]
    with pytest.raises(MachineNotFound):
        store.get(parcel, other)


async def test_an_asynchronous_transaction_is_of_one_shard(
    async_engine: AsyncEngine, second_engine: Engine
) -> None:
    second = create_async_engine(second_engine.url)
    engines = {"a": async_engine, "b": second}
    store = AsyncShardedStore(
        {name: AsyncPostgresStore(each, machines=[parcel]) for name, each in engines.items()}
    )
    (here,), (there,) = at("a", 1), at("b", 1)
    for key in (here, there):
        await store.start(parcel, key)
    async with AsyncSession(async_engine) as session, session.begin():
        await store.advance(parcel, here, Moved(), session=session)
        await store.advance_many(parcel, [(here, Moved())], session=session)
        with pytest.raises(UnsupportedConnection, match="lives on shard b"):
            await store.advance(parcel, there, Moved(), session=session)
        with pytest.raises(UnsupportedConnection, match="lives on shard b"):
            await store.signal(parcel, there, Moved(), session=session)

    assert [(await store.get(parcel, key)).seq for key in (here, there)] == [2, 0]
    await second.dispose()


def deliver(shards: Shards) -> None:
    """What the relay and the worker of each database do."""
    for engine in shards.engines.values():
        outbox, registry = PostgresOutbox(engine), Registry([parcel])
        ticket = uuid4()
        rows = outbox.publish("default", 100, ticket)
        claimed = outbox.claim(uuid4(), [row.id for row in rows if row.action != "Carry"], ticket, uuid4())
        finished = finish(outbox, registry, [Result(each, Completed()) for each in claimed])
        for each in finished.alone:
            finish_alone(outbox, registry, each)


def test_a_family_lives_together(shards: Shards) -> None:
    """A child is named after its parent, and so its key tells the parent's shard; so is a message to a neighbour."""
    store = shards.store
    for name in ("a", "b"):
        (key,) = at(name)
        store.start(parcel, key)
        store.start(parcel, f"{key}/neighbour")
        store.advance(parcel, key, Moved("child", f"{key}/child"))
        store.advance(parcel, f"{key}/child", Moved())
        store.advance(parcel, key, Moved("message", f"{key}/neighbour"))
        deliver(shards)
        assert store.get(parcel, f"{key}/neighbour").seq == 1
        keys = {record.key for record in shards.each[name].store.machines()}
        assert {key, f"{key}/child", f"{key}/neighbour"} <= keys


def test_a_message_to_a_shard_that_its_worker_was_not_told_of_says_so(shards: Shards) -> None:
    """It waits, and after a day it is failed, with the address; where workers know the shards: `test_post`."""
    store = shards.store
    (here,), (there,) = at("a"), at("b")
    for key in (here, there):
        store.start(parcel, key)
    store.advance(parcel, here, Moved("message", there))
    deliver(shards)
    (action,) = store.actions(key=here)
    assert action.status == "pending"
    assert store.get(parcel, there).seq == 0

    shards.each["a"].sql("UPDATE fsm.actions SET created_at = now() - interval '25 h', run_at = now()")
    deliver(shards)

    (action,) = store.actions(key=here)
    assert action.status == "failed"
    assert f"parcel/{there}" in str(action.error)


def test_a_new_shard_takes_new_keys_and_the_old_ones_are_found(shards: Shards) -> None:
    """What was placed by fewer shards stays where it is, and is never started twice."""
    small = shards.over("a")
    for key in KEYS[:20]:
        small.start(parcel, key)
    small.signal(parcel, "waits", Moved())
    grown = shards.over("a", "b", former=(("a",),))

    assert all(grown.start(parcel, key).duplicate for key in KEYS[:20])
    assert [grown.advance(parcel, key, Moved()).seq for key in KEYS[:20]] == [1] * 20
    assert [each.seq for each in grown.advance_many(parcel, [(key, Moved()) for key in KEYS[:20]])] == [
        2
    ] * 20
    assert grown.signal(parcel, KEYS[0], Moved()).seq == 3
    assert grown.start(parcel, "waits").seq == 0
    assert isinstance(grown.advance_many(parcel, [("nobody", Moved())])[0], MachineNotFound)
    for key in KEYS[20:]:
        grown.start(parcel, key)
    homes = Counter(name for name, world in shards.each.items() for _ in world.store.machines(limit=100))
    assert homes["a"] > 20
    assert homes["b"] > 3
    assert homes.total() == 41


def test_many_keep_their_order_wherever_they_live(shards: Shards) -> None:
    """One shard's are asked of it together, also where they are not at home; who is nowhere is told so."""
    (here,), (there, other) = at("a"), at("b", 2)
    for key in (here, there):
        shards.over("a").start(parcel, key)
    shards.each["b"].store.start(parcel, other)
    grown = shards.over("a", "b", former=(("a",),))

    answers = grown.advance_many(parcel, [(k, Moved()) for k in (there, "nobody", other, there, here, there)])

    assert [getattr(each, "seq", None) for each in answers] == [1, None, 1, 2, 1, 3]
    assert isinstance(answers[1], MachineNotFound)


def test_a_transaction_of_another_place_where_it_may_live_is_refused(
    engine: Engine, second_engine: Engine
) -> None:
    """Of the two shards that its key names it is on the other one: it is not missing."""
    stores = {"a": PostgresStore(engine), "b": PostgresStore(second_engine)}
    grown = ShardedStore(stores, former=[("a",)])
    (key,) = at("b")
    stores["a"].start(parcel, key)

    with Session(second_engine) as session, session.begin():
        with pytest.raises(UnsupportedConnection, match="lives on shard a, and session="):
            grown.advance(parcel, key, Moved(), session=session)
        with pytest.raises(UnsupportedConnection, match="lives on shard a, and session="):
            grown.advance_many(parcel, [(key, Moved())], session=session)
        with pytest.raises(MachineNotFound):
            grown.advance(parcel, at("b", 2)[1], Moved(), session=session)
    with Session(engine) as session, session.begin():
        assert grown.advance(parcel, key, Moved(), session=session).seq == 1


def test_a_shard_that_has_moved_to_another_server_is_found_again(engine: Engine) -> None:
    """What was known of its address is asked anew before a transaction is refused."""
    store = ShardedStore({"a": PostgresStore(engine)})
    store._router._servers["a"] = ("a host that is gone", 5432, "a")

    with Session(engine) as session, session.begin():
        assert store.start(parcel, "7", session=session).seq == 0


@pytest.mark.parametrize(
    ("one", "several"), [(PostgresStore, ShardedStore), (AsyncPostgresStore, AsyncShardedStore)]
)
def test_every_verb_of_one_machine_is_there(one: type, several: type) -> None:
    """With the signature and the text that it has for one database."""
    verbs = {
        name: verb
        for name, verb in getmembers(one, isfunction)
        if not name.startswith("_") and {"machine", "key"} <= set(signature(verb).parameters)
    }

    assert len(verbs) > 12
    for name, verb in verbs.items():
        same = getattr(several, name)
        assert signature(same) == signature(verb)
        assert same.__doc__ == verb.__doc__
        assert iscoroutinefunction(same) == iscoroutinefunction(verb)


def test_pruning_is_the_sum_of_all(shards: Shards) -> None:
    store = shards.store
    for key in KEYS[:10]:
        store.start(parcel, key)
        store.advance(parcel, key, Deliver())
    for world in shards.each.values():
        world.sql("UPDATE fsm.machines SET ended_at = ended_at - interval '2 days'")

    assert store.prune(Retention(timedelta(days=1))).machines == 10


def test_places_are_stable_and_even() -> None:
    """Of a hundred thousand keys each shard has its part, a new one takes its own part from all, and nothing else moves."""
    three, four = Places(("a", "b", "c")), Places(("d", "c", "b", "a"), former=(("a", "b", "c"),))
    keys = [str(n) for n in range(20_000)]
    before, after = [three.home(key) for key in keys], [four.home(key) for key in keys]

    assert all(abs(n / 20_000 - 1 / 3) < 0.02 for n in Counter(before).values())
    moved = [key for key, old, new in zip(keys, before, after, strict=True) if old != new]
    assert abs(len(moved) / 20_000 - 1 / 4) < 0.02
    assert {four.home(key) for key in moved} == {"d"}
    assert all(four.candidates(key) == ("d", three.home(key)) for key in moved)
    assert all(len(four.candidates(key)) == 1 for key in set(keys) - set(moved))
    assert [Places(("x", "y", "z")).home(key) for key in ("1", "2", "order-7", "ä")] == PINNED


PINNED = ["x", "z", "x", "z"]
"""As it has always been: another answer here means that no machine of anybody's is found any more."""


@pytest.mark.parametrize("key", ["7/3.0", "7/3.0/1.2", "7/", "7"])
def test_the_root_of_a_key_tells_its_place(key: str) -> None:
    places = Places(tuple("abcdefgh"))
    assert places.home(key) == places.home("7")


def test_a_shard_that_is_told_of_no_others_is_refused() -> None:
    """Its messages to others would wait for a day, and stand as failed."""
    with pytest.raises(ConfigurationError, match="FSM_SHARD is 'a', and FSM_SHARDS does not say"):
        read({"FSM_SHARD": "a"}, {})
    assert read({}, {}) is None


def test_shards_that_are_not_there_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no shard"):
        ShardedStore({})
    with pytest.raises(ConfigurationError, match="former shards are not there any more: gone"):
        Places(("a",), former=(("a", "gone"),))
