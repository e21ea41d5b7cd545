"""The fault proxy does what its modes say, on a real Postgres and a real Valkey."""

import threading
from collections.abc import Iterator

import psycopg
import pytest
import redis
from sqlalchemy.engine import make_url

from chaos.proxy import Proxy, Way
from tests.waiting import eventually


@pytest.fixture
def broker(broker_url: str) -> Iterator[Proxy]:
    with Proxy(broker_url) as proxy:
        yield proxy


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Proxy]:
    with Proxy(empty_database_url) as proxy:
        yield proxy


def client(proxy: Proxy, timeout: float = 0.3) -> redis.Redis:
    return redis.Redis.from_url(proxy.url, socket_timeout=timeout, socket_connect_timeout=5, retry=None)


def connect(proxy: Proxy) -> psycopg.Connection:
    url = make_url(proxy.url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(url, autocommit=True, prepare_threshold=1)


def test_everything_passes(broker: Proxy, database: Proxy) -> None:
    """Large answers too, and prepared statements."""
    with client(broker, 5) as through:
        through.set("a", b"x" * 1_000_000)
        assert len(through.get("a")) == 1_000_000
    with connect(database) as connection:
        for n in range(5):
            assert connection.execute("SELECT repeat('x', 100000), %s::int", (n,)).fetchone()[1] == n
    eventually(lambda: (broker.open, database.open) == (0, 0), what="ends are passed on")


def test_a_black_hole_swallows_and_closes_nothing(broker: Proxy) -> None:
    """Old and new connections alike; after it is healed, new ones work, and one that lost bytes stays dead."""
    with client(broker) as old, client(broker) as new, client(broker) as untouched:
        old.ping()
        kept = untouched.connection_pool.get_connection()
        broker.black_hole()
        lost = old.connection_pool.get_connection()
        lost.send_command("PING")
        with pytest.raises(redis.TimeoutError):
            new.ping()
        eventually(lambda: broker.swallowed, what="bytes are swallowed")

        broker.heal()

        assert new.ping()
        kept.send_command("PING")
        assert kept.read_response() == b"PONG"
        lost.send_command("PING")
        with pytest.raises(redis.TimeoutError):
            lost.read_response()


def test_what_is_held_goes_on(broker: Proxy) -> None:
    with client(broker, 10) as through:
        connection = through.connection_pool.get_connection()
        broker.hold()
        connection.send_command("PING")
        assert not connection.can_read(timeout=0.1)

        broker.heal()

        assert connection.read_response() == b"PONG"


@pytest.mark.parametrize(("way", "done"), [(Way.UP, 0), (Way.DOWN, 1)])
def test_one_direction_is_dropped(broker: Proxy, broker_url: str, way: Way, done: int) -> None:
    """Dropped on the way up, nothing is done; on the way down it is done, and nobody hears of it."""
    with client(broker) as through, redis.Redis.from_url(broker_url) as direct:
        through.ping()
        broker.drop(way)

        with pytest.raises(redis.TimeoutError):
            through.incr("n")

        eventually(lambda: int(direct.get("n") or 0) == done, what="it is done, or is not")


def test_only_what_matches_is_dropped(broker: Proxy) -> None:
    """A connection that said it is dead from there on, others are not."""
    with client(broker) as through, client(broker) as other:
        broker.drop(Way.UP, matching=b"INCR")
        through.ping()
        with pytest.raises(redis.TimeoutError):
            through.incr("n")
        assert other.ping()


def test_a_delay_is_kept(broker: Proxy) -> None:
    with client(broker, 0.2) as through:
        through.ping()
        broker.delay(1)
        with pytest.raises(redis.TimeoutError):
            through.ping()


def test_resets_and_refusals_are_errors_at_once(broker: Proxy) -> None:
    """After them the same port listens again."""
    with client(broker, 30) as through:
        through.ping()
        for mode in (broker.reset, broker.refuse):
            mode()
            for _ in range(2):
                with pytest.raises(redis.ConnectionError):
                    through.ping()
            broker.heal()
            assert eventually(through.ping, what="it answers again")


def test_a_server_that_is_away_is_a_reset() -> None:
    with (
        Proxy("redis://127.0.0.1:1/0") as proxy,
        client(proxy) as through,
        pytest.raises(redis.ConnectionError),
    ):
        through.ping()


@pytest.mark.parametrize("autocommit", [True, False])
def test_the_answer_to_a_commit_is_cut_off(database: Proxy, autocommit: bool) -> None:
    """It is committed, the client hears of a broken connection; other writes pass, and so does the next connection."""
    with connect(database) as first:
        first.execute("CREATE TABLE t (n int)")
    connection = connect(database)
    connection.autocommit = autocommit
    database.cut_after_commit(matching="INSERT INTO t")
    connection.execute("UPDATE t SET n = 0")
    connection.execute("SELECT * FROM t FOR UPDATE")

    def write() -> None:
        with connection:
            connection.execute("INSERT INTO t VALUES (%s)", (1,))
            assert not autocommit  # else it is this very statement that commits

    with pytest.raises(psycopg.OperationalError):
        write()

    with connect(database) as after:
        assert after.execute("SELECT n FROM t").fetchall() == [(1,)]
        after.execute("INSERT INTO t VALUES (2)")
    assert database.cuts == 1


def test_modes_change_while_a_client_waits(broker: Proxy) -> None:
    """A blocked read ends when the connection is cut."""
    ended: list[Exception] = []
    with client(broker, 30) as through:

        def wait() -> None:
            try:
                through.brpop("nothing", 0)
            except redis.RedisError as error:
                ended.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        eventually(lambda: broker.open, what="it waits")
        broker.cut()
        thread.join(timeout=10)

    assert isinstance(ended[0], redis.ConnectionError)
