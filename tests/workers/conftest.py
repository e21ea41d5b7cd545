"""Real relays and workers on the test's own database and broker."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, create_engine, text

from fsm_core.postgres import PostgresStore
from fsm_core.records import ActionRecord
from tests.waiting import eventually
from tests.workers.jobs import jobs
from workers.dev.supervise import Command, Supervisor

ROOT = Path(__file__).parents[2]


class Cluster:
    """The processes of one test, and what it may do to them."""

    def __init__(self, supervisor: Supervisor, database_url: str, broker_url: str, folder: Path) -> None:
        self.supervisor = supervisor
        self.database_url, self.broker_url, self.folder = database_url, broker_url, folder
        self.notes = folder / "notes"
        self.engine: Engine = create_engine(database_url)
        self.store = PostgresStore(self.engine, machines=[jobs])
        self.env = {
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "FSM_MACHINES": "tests.workers.jobs:effects",
            "FSM_LEASE": "4",
            "JOBS_FILE": str(self.notes),
            "PYTHONPATH": str(ROOT),
        }

    def relay(self, name: str = "relay") -> int:
        """Start a relay; returns its pid."""
        return self._start(name, [sys.executable, "-m", "workers.cli.main", "relay"])

    def worker(
        self,
        name: str = "worker",
        *,
        pool: str = "threads",
        slots: int = 4,
        queues: str = "default",
        app: str = "workers",
    ) -> int:
        """Start a worker and wait until it is there; returns its pid."""
        known = self.registered()
        argv = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            app,
            "worker",
            "-P",
            pool,
            "-c",
            str(slots),
            "-Q",
            queues,
        ]
        pid = self._start(
            name, [*argv, "-n", f"{name}@%h", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        )
        eventually(
            lambda: self.registered() > known, timeout=30, what=f"{name} registers; log: {self.log(name)}"
        )
        return pid

    def _start(self, name: str, argv: list[str]) -> int:
        log = self.folder / f"{name}.log"
        return self.supervisor.start(name, Command(argv, env=self.env, cwd=ROOT, log=log, restart=False))

    def nodes(self) -> int:
        return int(self.ask("SELECT count(*) FROM fsm.workers WHERE kind = 'node' AND dead_at IS NULL"))

    def registered(self) -> int:
        """How many nodes there were ever: one that was killed may be marked dead while the next one comes up."""
        return int(str(self.ask("SELECT count(*) FROM fsm.workers WHERE kind = 'node'")))

    def log(self, name: str) -> str:
        file = self.folder / f"{name}.log"
        return file.read_text()[-3000:] if file.exists() else ""

    def ask(self, query: str) -> object:
        with self.engine.connect() as connection:
            return connection.execute(text(query)).scalar()

    def open(self, gate: str) -> None:
        """Let the effects that wait for `gate` go on."""
        Path(f"{self.notes}.{gate}").touch()

    def kill(self, name: str) -> None:
        """SIGKILL a process and its children."""
        process = psutil.Process(self.supervisor.pid(name))
        for victim in (*process.children(recursive=True), process):
            victim.send_signal(signal.SIGKILL)

    def picture(self) -> str:
        """What stands in the tables and in the logs, for a test that fails."""
        lines = [f"at {self.ask('SELECT clock_timestamp()')}"]
        with self.engine.connect() as connection:
            for table in ("actions", "workers", "attempts"):
                rows = connection.execute(
                    text(f"SELECT row_to_json(t) FROM fsm.{table} t LIMIT 20")
                ).scalars()
                lines += [f"{table}: {row}" for row in rows]
        return "\n".join(
            [*lines, *(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in self.folder.glob("*.log"))]
        )

    def settled(self, timeout: float = 30) -> list[ActionRecord]:
        """Wait until every action has finished; returns them."""
        unfinished = (
            "SELECT count(*) FROM fsm.actions WHERE status NOT IN ('completed', 'failed', 'cancelled')"
        )
        try:
            eventually(lambda: self.ask(unfinished) == 0, timeout=timeout, what="every action has finished")
        except TimeoutError as error:
            error.add_note(self.picture())
            raise
        return self.store.actions(limit=10_000)


@pytest.fixture
def cluster(
    database_url: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    with Supervisor(grace=15) as supervisor:
        cluster = Cluster(supervisor, database_url, broker_url, tmp_path)
        monkeypatch.setenv("JOBS_FILE", str(cluster.notes))
        yield cluster
        cluster.engine.dispose()
