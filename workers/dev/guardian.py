"""The guardian: owns the embedded servers, and ends them when the process that asked for them is gone.

    python -m workers.dev.guardian --asker PID [--postgres] [--valkey]

It prints one JSON line, the URLs or an error, and then waits. It ends its servers and removes their directory when its
standard input closes (the asker let go, or died: the kernel closes the pipe of a process ended by SIGKILL too), when
the asker is no longer its parent (a child forked without exec may still hold the pipe), or on SIGTERM. It runs in a
session of its own: the Ctrl-C of a terminal is the asker's to handle. If the guardian itself is killed, the servers
die with it (`workers.dev.leash`) and the next start removes the directory (`workers.dev.directory`).
"""

import argparse
import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from workers.dev.directory import private_directory
from workers.dev.errors import DevServersError
from workers.dev.postgres import postgres
from workers.dev.valkey import valkey

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_LOOK_FOR_ASKER_EVERY = 0.5


def _end(_number: int, _frame: FrameType | None) -> None:
    _ignore_signals()
    raise SystemExit(0)


def _ignore_signals() -> None:
    """From here on nothing interrupts the tidying up."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def _wait_for_end(asker: int) -> None:
    """Returns when the asker closed the pipe or died."""
    while os.getppid() == asker:
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], _LOOK_FOR_ASKER_EVERY)
        if readable and not os.read(sys.stdin.fileno(), 1):
            return


def _say(answer: dict[str, str]) -> None:
    # Nobody may be listening any more; the wait that follows then ends at once.
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")


def _serve(options: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(private_directory())
            answer = {"directory": str(directory)}
            if options.valkey:
                answer["broker_url"] = stack.enter_context(valkey(directory))
            if options.postgres:
                answer["database_url"] = stack.enter_context(postgres(directory))
            _say(answer)
            _wait_for_end(options.asker)
        finally:
            _ignore_signals()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the servers until the asker is gone; returns the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--asker", type=int, required=True)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--valkey", action="store_true")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in _ENDING:
        signal.signal(number, _end)
    try:
        _serve(options)
    except (DevServersError, OSError) as error:
        _say({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
