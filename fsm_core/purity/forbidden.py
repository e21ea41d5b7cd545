"""What a transition must not call: the lists, and who recognises what. Each answer is the call's name, or None."""

from __future__ import annotations

import datetime as dt
import io
import logging
import os
import random
import select
import socket
import threading
import uuid
from types import CodeType, FrameType, ModuleType

HIDDEN: object = random.random.__self__  # type: ignore[attr-defined] # the generator behind `random.random()`

AUDITED = frozenset(
    {
        "_posixsubprocess", "_thread", "_winapi", "ctypes", "fcntl", "ftplib", "glob", "http", "imaplib", "mmap", "msvcrt",
        "open", "os", "pathlib", "poplib", "pty", "shutil", "signal", "smtplib", "socket", "sqlite3", "subprocess", "syslog",
        "tempfile", "time", "urllib", "webbrowser", "winreg",
    }
)  # fmt: skip
"""The first words of the audit events of files, sockets, processes, threads and sleep. Source: Python's audit events table."""

CLOCKS = frozenset(
    {
        "clock_gettime", "clock_gettime_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time",
        "process_time_ns", "sleep", "thread_time", "thread_time_ns", "time", "time_ns",
    }
)  # fmt: skip

PATHS = frozenset({"fspath", "strerror", "_path_normpath", "_path_splitroot", "_path_splitroot_ex"})
"""The functions of `os` that only compute; every other one asks or changes the system."""

ONLY_DIRECTLY = {
    "builtins": frozenset({"id"}),
    "_thread": frozenset({"get_ident", "get_native_id"}),
    "time": frozenset({"asctime", "ctime", "gmtime", "localtime", "strftime", "tzset"}),
}
"""What the standard library calls in innocent work (`repr` of a dataclass, `deepcopy`, `strptime`), and a user does not."""

OPENED = (
    io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper, socket.SocketType,
)  # fmt: skip
"""What was opened elsewhere, and may not be used either. StringIO and BytesIO are values."""

OPENED_BY = frozenset({"_ssl", "sqlite3", "select"})
"""The modules of more such types, which have no name to be imported by."""

SHOWN = {"posix": "os", "nt": "os", "_thread": "threading", "_io": "io"}

_LOGGING = ("debug", "info", "warning", "error", "exception", "critical", "log")

PYTHON: dict[CodeType, str] = {
    threading.Thread.start.__code__: "threading.Thread.start",
    **{getattr(logging.Logger, name).__code__: f"logging.Logger.{name}" for name in _LOGGING},
    **{function.__code__: f"uuid.{function.__name__}" for function in (uuid.uuid1, uuid.uuid4, uuid.getnode)},
    **{
        getattr(type(os.environ), name).__code__: "os.environ"
        for name in ("__getitem__", "__setitem__", "__delitem__", "__iter__", "__len__")
    },
}
"""Functions that are written in Python, by their code."""

BY_NAME = {
    ("psycopg.connection", "Connection.wait"): "psycopg.Connection.wait",
    ("psycopg.connection_async", "AsyncConnection.wait"): "psycopg.AsyncConnection.wait",
}
"""The same by module and name, of libraries that need not be there; psycopg's own I/O is done in C, unseen."""

_SEED = random.Random.seed.__code__


def by_audit(event: str) -> str | None:
    """The audit event, if it is one of I/O."""
    return event if event.partition(".")[0] in AUDITED or event == "builtins.input" else None


def by_builtin(function: object, *, directly: bool) -> str | None:
    """A function written in C that raises no audit event. directly: the machine's own code calls it, no library does."""
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if owner is None or isinstance(owner, ModuleType):
        return _of_module(getattr(function, "__module__", None) or "", name, directly=directly)
    if isinstance(owner, type):
        is_clock = issubclass(owner, dt.date) and name in ("now", "utcnow", "today")
        return f"{owner.__name__}.{name}" if is_clock else None
    if owner is HIDDEN:
        return f"random.{name}"
    if isinstance(owner, OPENED) or any(cls.__module__ in OPENED_BY for cls in type(owner).__mro__):
        return f"{type(owner).__name__}.{name}"
    return None


def by_python(frame: FrameType) -> str | None:
    """A function written in Python that is about to run in `frame`."""
    code = frame.f_code
    if code.co_filename != random.__file__:
        return PYTHON.get(code) or BY_NAME.get((frame.f_globals.get("__name__", ""), code.co_qualname))
    if frame.f_locals.get("self") is HIDDEN:
        return f"random.{code.co_name}"
    return "random.Random() without a seed" if code is _SEED and frame.f_locals.get("a") is None else None


def _of_module(module: str, name: str, *, directly: bool) -> str | None:
    shown = f"{SHOWN.get(module, module)}.{name}"
    if module in ("posix", "nt"):
        return None if name in PATHS else shown
    if (module, name) == ("builtins", "print"):
        return "print"
    if (module == "time" and name in CLOCKS) or module == select.__name__:
        return shown
    return shown.removeprefix("builtins.") if directly and name in ONLY_DIRECTLY.get(module, ()) else None
