"""A relay prunes by itself, as its settings say."""

from tests.cli.machines import Coin, Counting, Kick, turnstile
from tests.store.aging import grow_old
from tests.store.world import PostgresWorld, plain
from tests.waiting import eventually
from tests.workers.conftest import Cluster


def test_a_relay_prunes_what_is_older_than_it_is_told(cluster: Cluster) -> None:
    """The details of one that ended long ago go; one that ended lately keeps them."""
    for key, days in (("old", 40), ("new", 1)):
        cluster.store.start(turnstile, key, Counting())
        cluster.store.advance(turnstile, key, Coin(50))
        cluster.store.advance(turnstile, key, Kick())
        grow_old(PostgresWorld(cluster.store, plain(cluster.database_url)), days)
    cluster.env["FSM_RETENTION"] = "30d"
    cluster.relay()

    eventually(
        lambda: len(cluster.store.history(turnstile, "old")) == 1,
        timeout=30,
        what=f"it is pruned; log: {cluster.log('relay')}",
    )
    assert len(cluster.store.history(turnstile, "new")) == 3
    assert cluster.store.get(turnstile, "old").status == "done"
