"""Runs a program that dies with the thread that started it, even if that was ended by SIGKILL.

    python leash.py --parent PID --signal NUMBER [--user NAME] -- PROGRAM [ARGUMENT ...]

On Linux the kernel is asked to send the signal (PR_SET_PDEATHSIG); then the program takes this process over, so that
its pid is the one that was started. Elsewhere the program just runs. The kernel's promise was chosen over a pipe
whose end the child watches because the child need not cooperate, and no process stands in between.

Two rules follow from the kernel's terms. The signal comes when the starting *thread* ends, so the thread that starts
a leashed program must live as long as it is wanted. And changing the user clears the request, so the user is changed
here, before it is made.

This file is run by its path, and imports only the standard library, so that a start costs milliseconds.
"""

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_EXIT_NOT_RUNNABLE = 127


def leashed(
    argv: Sequence[str], *, death_signal: signal.Signals = signal.SIGTERM, user: str | None = None
) -> list[str]:
    """The command that runs `argv` on a leash held by the calling process.

    Args:
        argv: The program and its arguments.
        death_signal: What the program gets when its parent dies.
        user: The user to become first; needs root.
    """
    leash = [sys.executable, "-I", "-S", os.path.abspath(__file__)]  # noqa: PTH100 - pathlib would slow each start
    leash += ["--parent", str(os.getpid()), "--signal", str(int(death_signal))]
    if user is not None:
        leash += ["--user", user]
    return [*leash, "--", *argv]


def _become(user: str) -> None:
    import pwd

    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _die_with(parent: int, death_signal: int) -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death_signal)
    # The parent may have died before the request was made: then nobody will send the signal.
    if os.getppid() != parent:
        sys.exit(128 + death_signal)


def main(arguments: Sequence[str] | None = None) -> int:
    """Becomes the program; returns only if it cannot be run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--signal", type=int, required=True)
    parser.add_argument("--user")
    parser.add_argument("program", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    program: list[str] = options.program[1:] if options.program[:1] == ["--"] else options.program
    if options.user is not None:
        _become(options.user)
    _die_with(options.parent, options.signal)
    try:
        os.execvp(program[0], program)  # noqa: S606 - running what the caller names is its purpose
    except OSError as error:
        sys.stderr.write(f"cannot run {program[0]}: {error.strerror}\n")
    return _EXIT_NOT_RUNNABLE


if __name__ == "__main__":
    sys.exit(main())
