"""TLS to both servers: who is not who it should be is refused, and so is plaintext where it is not allowed."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from fsm_core.errors import BrokerUnavailable, ConfigurationError, DatabaseUnavailable
from fsm_core.postgres import PostgresStore
from tests.security.tls import Authority, before
from tests.waiting import eventually
from tests.workers.conftest import Cluster
from tests.workers.jobs import Do, Waiting, jobs
from workers.bell import Bell
from workers.broker import KombuBroker
from workers.celery import create_app
from workers.settings import read


@dataclass
class Secured:
    """Both servers behind TLS; what the addresses are."""

    database_url: str
    broker_url: str


Secure = Callable[..., contextlib.AbstractContextManager[Secured]]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secure(database_url: str, broker_url: str, authority: Authority) -> Secure:
    """Puts TLS before both servers, and says how to reach them as one who trusts `authority`; without a signer, no TLS."""

    @contextlib.contextmanager
    def behind(
        signer: Authority | None = authority, host: str = "localhost", days: int = 1
    ) -> Iterator[Secured]:
        context = None if signer is None else signer.context(host, days)
        database, broker = make_url(database_url), make_url(broker_url)
        folder = database.query.get("host")
        where = f"{folder}/.s.PGSQL.5432" if folder else (database.host or "", database.port or 5432)
        with (
            before(where, context, postgres=True) as first,
            before((broker.host or "", broker.port or 6379), context) as second,
        ):
            query = {"sslmode": "verify-full", "sslrootcert": str(authority.file)}
            trusts = {"ssl_ca_certs": str(authority.file)}
            yield Secured(
                database.set(host="localhost", port=first, query=query).render_as_string(hide_password=False),
                broker.set(drivername="rediss", host="localhost", port=second, query=trusts).render_as_string(
                    hide_password=False
                ),
            )

    return behind


def refuses(secured: Secured, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Neither server is believed, and each says so in one line, for every way in which we reach it."""
    engine = create_engine(secured.database_url)
    for reach in (
        lambda: PostgresStore(engine).get(jobs, "a"),
        lambda: Bell(secured.database_url, "fsm", patience=5),
    ):
        with pytest.raises(DatabaseUnavailable, match=why) as caught:
            reach()
        assert "\n" not in str(caught.value)
    engine.dispose()
    monkeypatch.setenv("BROKER_URL", secured.broker_url)
    with pytest.raises(BrokerUnavailable, match=why) as told:
        KombuBroker(create_app()).ping()
    assert "\n" not in str(told.value)


def test_everything_goes_on_behind_tls(cluster: Cluster, secure: Secure) -> None:
    with secure() as secured:
        cluster.env |= {
            "DATABASE_URL": secured.database_url, "BROKER_URL": secured.broker_url, "FSM_REQUIRE_TLS": "1",
        }  # fmt: skip
        cluster.relay()
        cluster.worker()
        cluster.store.start(jobs, "a")
        cluster.store.advance(jobs, "a", Do(("one",)))
        eventually(
            lambda: cluster.store.get(jobs, "a").state == Waiting(("one",)), timeout=30, what="it is done"
        )


def test_who_was_signed_by_somebody_else_is_refused(
    secure: Secure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with secure(Authority(tmp_path, "theirs")) as secured:
        refuses(secured, monkeypatch, "certificate verify failed")


def test_who_has_another_name_is_refused(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    with secure(host="elsewhere.test") as secured:
        refuses(secured, monkeypatch, "(?i)does not match host name|Hostname mismatch")


def test_who_has_expired_is_refused(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    with secure(days=-1) as secured:
        refuses(secured, monkeypatch, "certificate verify failed|expired")


def test_a_broker_by_rediss_alone_is_verified(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kombu's default would believe anybody."""
    with secure() as secured:
        bare = make_url(secured.broker_url).set(query={}).render_as_string(hide_password=False)
        monkeypatch.setenv("BROKER_URL", bare)
        with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
            KombuBroker(create_app()).ping()


def test_who_speaks_no_tls_is_refused(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    with secure(None) as secured:
        refuses(secured, monkeypatch, "server does not support SSL|broker at .* does not answer")


WITH_TLS = {
    "DATABASE_URL": "postgresql://u:hidden@db/x?sslmode=verify-full&sslrootcert=/ca.pem",
    "BROKER_URL": "rediss://:hidden@broker:6379/0?ssl_ca_certs=/ca.pem",
    "FSM_REQUIRE_TLS": "1",
    "FSM_MACHINES": "",
}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"DATABASE_URL": "postgresql:///x?host=/run/postgresql"},
        {"DATABASE_URL": "postgresql://db/x", "PGSSLMODE": "verify-full"},
        {"BROKER_URL": "rediss://broker/0?ssl_cert_reqs=CERT_REQUIRED"},
    ],
)
def test_tls_is_enough(given: dict[str, str]) -> None:
    assert read({}, WITH_TLS | given).database_url


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"DATABASE_URL": "postgresql://u:hidden@db/x"}, "sslmode=verify-full .* not none"),
        ({"DATABASE_URL": "postgresql://u:hidden@db/x?sslmode=require"}, "not require"),
        ({"DATABASE_URL": "postgresql://u:hidden@db/x?sslmode=verify-ca"}, "not verify-ca"),
        ({"DATABASE_URL": "postgresql:///x"}, "not none"),
        ({"BROKER_URL": "redis://:hidden@broker/0"}, "begins with rediss://, not redis://"),
        ({"BROKER_URL": "amqp://u:hidden@broker"}, "begins with rediss://"),
        ({"BROKER_URL": "rediss://:hidden@broker/0?ssl_cert_reqs=CERT_NONE"}, "ssl_cert_reqs"),
        ({"BROKER_URL": "rediss://:hidden@broker/0?ssl_cert_reqs=CERT_OPTIONAL"}, "ssl_cert_reqs"),
        ({"BROKER_URL": "rediss://:hidden@broker/0?ssl_check_hostname=False"}, "ssl_check_hostname"),
    ],
)
def test_where_tls_is_required_nothing_less_is_accepted(given: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        read({}, WITH_TLS | given)
    assert "hidden" not in str(caught.value)


def test_what_celeryconfig_says_of_tls_counts_too() -> None:
    with pytest.raises(ConfigurationError, match="ssl_cert_reqs"):
        read({"broker_use_ssl": {"ssl_cert_reqs": 0}}, WITH_TLS)
