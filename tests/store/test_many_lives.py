"""A thousand lives at once, from sixteen threads over a pool of five connections. Source: persistent-state-machine."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Any

from sqlalchemy import create_engine, event, text

from examples.life import Alive, Birth, Dead, Death, Gestating, life
from fsm_core import MachineStatus
from fsm_core.columns import columns
from fsm_core.postgres import PostgresStore
from fsm_core.postgres.view import View

LIVES = 1000
THREADS = 16
CONNECTIONS = 5


@contextmanager
def small_pool(database_url: str, opened: list[Any]) -> Iterator[PostgresStore]:
    """A store over a pool that never grows; notes each connection that is opened."""
    engine = create_engine(database_url, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=60)
    event.listen(engine, "connect", lambda connection, _record: opened.append(connection))
    try:
        yield PostgresStore(engine)
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined] # a QueuePool
    finally:
        engine.dispose()


def view(store: PostgresStore) -> list[Any]:
    """The rows of the view, on a connection of the same pool."""
    with store._own._engine.connect() as connection:
        return list(connection.execute(text("SELECT * FROM fsm.life ORDER BY key")))


def test_a_thousand_lives_are_born_and_die_at_once(database_url: str) -> None:
    """All are alive at the same time; none is lost or mixed up, every log is gapless, and the view has their dates, typed."""
    keys = [f"life {n:04}" for n in range(LIVES)]
    shuffled = Random(7)
    opened: list[Any] = []
    View("fsm", "life", "life", columns([life])).create(database_url)

    with small_pool(database_url, opened) as store, ThreadPoolExecutor(THREADS) as threads:

        def every(call: Callable[[str], Any]) -> dict[str, Any]:
            """What `call` answers for each life; the sixteen threads meet them in an order of their own each time."""
            order = shuffled.sample(keys, LIVES)
            return dict(zip(order, threads.map(call, order), strict=True))

        started = every(lambda key: store.start(life, key))
        born = every(lambda key: store.advance(life, key, Birth()))
        alive = view(store)
        died = every(lambda key: store.advance(life, key, Death()))
        dead = view(store)
        states = every(lambda key: store.get(life, key))
        with store._own._engine.connect() as connection:
            log = connection.execute(
                text(
                    "SELECT m.key, array_agg(e.name ORDER BY e.seq), array_agg(e.seq ORDER BY e.seq)"
                    "  FROM fsm.machines m JOIN fsm.events e ON e.machine_id = m.id GROUP BY m.key ORDER BY m.key"
                )
            ).all()

    assert len(opened) <= CONNECTIONS
    assert {now.state for now in started.values()} == {Gestating()}
    assert [(row.key, row.state, row.born_at, row.died_at) for row in alive] == [
        (key, "Alive", born[key].updated_at, None) for key in keys
    ]
    assert all(born[key].state == Alive(born[key].updated_at) for key in keys)
    assert all(died[key].state == Dead(died[key].updated_at, born[key].updated_at) for key in keys)
    assert states == died
    assert [tuple(row) for row in dead] == [
        (
            now.id, key, MachineStatus.DONE.value, "Dead", 2, 1, started[key].created_at, now.updated_at, now.ended_at,
            now.state.born_at, now.state.died_at,
        )
        for key, now in sorted(died.items())
    ]  # fmt: skip
    assert [tuple(row) for row in log] == [(key, ["Gestating", "Birth", "Death"], [0, 1, 2]) for key in keys]
