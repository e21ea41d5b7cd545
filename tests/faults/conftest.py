"""Real relays and workers behind fault proxies."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.proxy import Proxy
from tests.waiting import eventually
from tests.workers.conftest import Cluster
from workers.dev.supervise import Ended, Supervisor


class Broken(Cluster):
    """A cluster whose processes notice faults soon, and may be started behind a proxy."""

    def __init__(self, supervisor: Supervisor, database_url: str, broker_url: str, folder: Path) -> None:
        super().__init__(supervisor, database_url, broker_url, folder)
        self.env |= {"CELERY_CONFIG_MODULE": "tests.faults.quick", "FSM_PATIENCE": "2"}
        self.ended: list[Ended] = []

    @contextlib.contextmanager
    def via(
        self, *, database: Proxy | None = None, broker: Proxy | None = None, **env: str
    ) -> Iterator[None]:
        """What is started inside reaches the servers through the proxies, and has these variables."""
        before = dict(self.env)
        if database is not None:
            self.env["DATABASE_URL"] = database.url
        if broker is not None:
            self.env["BROKER_URL"] = broker.url
        self.env |= env
        yield
        self.env = before

    def status(self, name: str, timeout: float = 40) -> int:
        """Wait until a process has ended by itself; returns its exit status."""

        def found() -> list[int]:
            return [ended.status for ended in self.ended if ended.name == name]

        return eventually(found, timeout=timeout, what=f"{name} ends; log: {self.log(name)}")[0]


@pytest.fixture
def cluster(
    database_url: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Broken]:
    ended: list[Ended] = []
    with Supervisor(grace=10, on_end=ended.append) as supervisor:
        cluster = Broken(supervisor, database_url, broker_url, tmp_path)
        cluster.ended = ended
        monkeypatch.setenv("JOBS_FILE", str(cluster.notes))
        yield cluster
        cluster.engine.dispose()


@pytest.fixture
def database(database_url: str) -> Iterator[Proxy]:
    """A proxy before the test's database."""
    with Proxy(database_url) as proxy:
        yield proxy


@pytest.fixture
def broker(broker_url: str) -> Iterator[Proxy]:
    """A proxy before the test's broker."""
    with Proxy(broker_url) as proxy:
        yield proxy
