"""The private directory of one set of embedded servers: short, without spaces, and gone when they are.

A guardian holds a lock on its directory for as long as it lives. The kernel drops the lock with the guardian, so what
a guardian killed by SIGKILL has left is told from what is in use without a clock or a pid, and the next start
removes it.
"""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from workers.dev.errors import DevServersError

_PREFIX = "fsm-dev-"
_LOCK = "lock"
_LONGEST_SOCKET = "/fsm-dev-12345678/socket/.s.PGSQL.5432"
# macOS gives a socket's path 104 bytes with its closing NUL, Linux 108.
_SOCKET_LIMIT = 103
# initdb and pg_ctl put paths through a shell.
_PLAIN_PATH = re.compile(r"[\w/.+-]+", re.ASCII)
_UNLOCKED_IS_STALE_AFTER = 3600.0


def _suits(base: Path) -> bool:
    """Whether servers can live under `base`, if need be as another user than root."""
    if not _PLAIN_PATH.fullmatch(str(base)) or len(str(base) + _LONGEST_SOCKET) > _SOCKET_LIMIT:
        return False
    if not base.is_dir() or not os.access(base, os.W_OK | os.X_OK):
        return False
    return os.geteuid() != 0 or all(path.stat().st_mode & stat.S_IXOTH for path in (base, *base.parents))


def base_directory() -> Path:
    """Where to make a private directory: TMPDIR if servers can live there, else the system's own.

    Raises:
        DevServersError: No candidate will do.
    """
    candidates = [Path(tempfile.gettempdir()).resolve(), Path("/tmp").resolve(), Path("/var/tmp").resolve()]  # noqa: S108 - mkdtemp follows
    for base in candidates:
        if _suits(base):
            return base
    tried = ", ".join(repr(str(base)) for base in candidates)
    raise DevServersError(
        f"no directory for the embedded servers (short, writable, without spaces): tried {tried}; set TMPDIR"
    )


def _lock(directory: Path) -> int:
    """Takes a new directory's lock, so that at no moment it stands there unlocked under its name."""
    unnamed = directory / f"{_LOCK}.new"
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    unnamed.rename(directory / _LOCK)
    return descriptor


@contextlib.contextmanager
def private_directory() -> Generator[Path]:
    """A new directory under `base_directory()`, locked while in use and removed afterwards."""
    base = base_directory()
    sweep(base)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    try:
        if os.geteuid() == 0:
            # The database server refuses to run as root: its user must be able to pass, though not to look.
            directory.chmod(0o711)
        descriptor = _lock(directory)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(descriptor)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sweep(base: Path) -> None:
    """Removes what guardians of this user that were killed have left under `base`, servers included."""
    for directory in base.glob(f"{_PREFIX}*"):
        # Another user's, or one that its own guardian removes just now.
        with contextlib.suppress(OSError):
            found = directory.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                _sweep_one(directory, found.st_mtime)


def _sweep_one(directory: Path, modified: float) -> None:
    try:
        descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        if time.time() - modified > _UNLOCKED_IS_STALE_AFTER:
            shutil.rmtree(directory, ignore_errors=True)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _kill_survivors(directory)
        shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


def _kill_survivors(directory: Path) -> None:
    """Ends servers that outlived their guardian: none on Linux, where the kernel has told them to stop."""
    import psutil

    def lives_in_it(process: psutil.Process) -> bool:
        return any(str(directory) in argument for argument in process.info["cmdline"] or ())

    survivors = [process for process in psutil.process_iter(["cmdline"]) if lives_in_it(process)]
    _, stubborn = psutil.wait_procs(survivors, timeout=1)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=5)
