"""One server process of the guardian's: started on a leash, watched while it starts, stopped for good."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from workers.dev.errors import DevServersError
from workers.dev.leash import leashed

_TAIL_LINES = 20
_POLL = 0.02


class ServerProcess:
    """A running server.

    Args:
        name: How messages call it.
        argv: Its command.
        log: The file that takes its output.
        stop_signal: What ends it at once and in order; it gets the same if the guardian dies.
        user: The user to run as, if not the present one.
        env: The environment, if not the present one.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        stop_signal: signal.Signals,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = log
        self._stop_signal = stop_signal
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                leashed(argv, death_signal=stop_signal, user=user),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env=env,
            )

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def failed(self, why: str) -> DevServersError:
        """The error that says why the server is not there, with the tail of its log."""
        lines = self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        said = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        return DevServersError(f"{self.name} {why}; the end of its log:\n{said}")

    def exited(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Waits until `ready()`.

        Raises:
            DevServersError: The server ended, or was not ready in time.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if self.exited():
                raise self.failed(f"ended while starting (exit status {self._process.returncode})")
            if time.monotonic() > deadline:
                raise self.failed(f"was not ready within {timeout:.0f} s")
            time.sleep(_POLL)

    def finish(self, timeout: float) -> None:
        """Waits for a command that ends by itself.

        Raises:
            DevServersError: It failed, or did not end in time.
        """
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.failed(f"did not finish within {timeout:.0f} s") from None
        if status != 0:
            raise self.failed(f"failed (exit status {status})")

    def stop(self, timeout: float = 15.0) -> None:
        """Ends it: by its own signal, then by SIGKILL."""
        if self.exited():
            return
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
