"""The command `fsm`: its verbs, and the one place where errors become a line and an exit status.

Exit status: 0 done; 1 a server is away, something broke, or a verb found what it looks for (`check`, `fsck`, ...); 2 the call was wrong and nothing changed.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence

import typer

from fsm_core.errors import ConfigurationError, DefinitionError, FsmError, NotFound, Refused
from workers.cli import (
    actions,
    cancel,
    check,
    check_upgrade,
    dev,
    diff,
    doctor,
    explain,
    fsck,
    graph,
    history,
    limits,
    machines,
    migrate,
    output,
    partitions,
    prune,
    relay,
    restore,
    retry,
    roles,
    send,
    show,
    signal,
    start,
    stats,
    upcast,
    view,
    wait,
    worker,
)
from workers.dev.errors import DevServersError

_PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
_WRONG_CALL = (Refused, NotFound, ConfigurationError, DefinitionError)
# What typer raises for a wrong call, wherever this version of it keeps click.
_USAGE: type[Exception] = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")

app = typer.Typer(
    name="fsm",
    help="Durable finite-state machines: start, look at, drive and repair them. A machine is addressed as NAME/KEY.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
)
_VERBS: tuple[Callable[..., object], ...] = (
    migrate.migrate,
    dev.dev,
    worker.worker,
    relay.relay,
    machines.machines,
    show.show,
    explain.explain,
    history.history,
    diff.diff,
    start.start,
    send.send,
    signal.signal,
    actions.actions,
    retry.retry,
    restore.restore,
    cancel.cancel,
    graph.graph,
    check.check,
    check_upgrade.check_upgrade,
    upcast.upcast,
    fsck.fsck,
    view.view,
    wait.wait,
    prune.prune,
    roles.roles,
    doctor.doctor,
    stats.stats,
)
for verb in _VERBS:
    app.command(context_settings=_PASSED_ON if verb is worker.worker else None)(verb)
app.add_typer(limits.limits, name="limits")
app.add_typer(partitions.partitions, name="partitions")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (this process's own, if none is given). Returns the exit status; errors are one line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _never_fail_to_print()
    try:
        for argument in given:
            _check_text(argument)
        status = typer.main.get_command(app).main(given or ["--help"], prog_name="fsm", standalone_mode=False)
        sys.stdout.flush()
    except FsmError as error:
        return _complain(_message(error), 2 if isinstance(error, _WRONG_CALL) else 1)
    except _USAGE as error:
        return _complain(_usage(error), 2)
    except DevServersError as error:
        sys.stderr.write(f"fsm: {error}\n")
        return 1
    except BrokenPipeError:
        # Whoever read our output (`| head`) has enough. What is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0


def _check_text(argument: str) -> None:
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise Refused(f"the argument {argument!r} is not UTF-8") from None


def _message(error: FsmError) -> str:
    """The error in one line; what a verb noted on it (where in a file it was) goes first."""
    notes: list[str] = getattr(error, "__notes__", [])
    return ": ".join([*notes, str(error)])


def _usage(error: Exception) -> str:
    """Typer's message, with the command whose help says more."""
    context = getattr(error, "ctx", None)
    said: str = error.format_message()  # type: ignore[attr-defined]
    said = said.replace("Value error, ", "")  # of the library that typer checks with
    return said.rstrip(".") + (f" (see `{context.command_path} --help`)" if context is not None else "")


def _complain(message: str, status: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"fsm: {output.plain(' '.join(message.splitlines()))}\n")
    return status


def _never_fail_to_print() -> None:
    """A key that the locale's encoding lacks is written out, instead of a UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
