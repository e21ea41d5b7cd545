"""What a transition may do, and may not: deeds by name, importable by a second process."""
# Here wrong is what is wanted:
# ruff: noqa: DTZ002, DTZ003, DTZ011, T201, LOG015, PTH208

import ctypes
import http.client
import io
import logging
import mmap
import os
import random
import secrets
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from time import sleep
from types import SimpleNamespace

import msgspec

from fsm_core import (
    Context,
)


@dataclass(frozen=True)
class Idle:
    tags: frozenset[str] = frozenset()
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Gone:
    to: str = ""


@dataclass(frozen=True)
class Left: ...


@dataclass(frozen=True)
class Go:
    deed: str = "nothing"


@dataclass(frozen=True)
class Say:
    text: str = ""


@dataclass(frozen=True)
class Tell:
    text: str = ""


Deed = Callable[[Context], object]

WRONG: dict[str, tuple[str, Deed]] = {}
"""Deeds by name, with the call that is to be named."""

INNOCENT: dict[str, Deed] = {}


def wrong(call: str) -> Callable[[Deed], Deed]:
    def known(deed: Deed) -> Deed:
        WRONG[deed.__name__] = call, deed
        return deed

    return known


def innocent(deed: Deed) -> Deed:
    INNOCENT[deed.__name__] = deed
    return deed


for call, deed in {
    "open": lambda _: Path(__file__).read_text(),
    "os.listdir": lambda _: os.listdir("."),
    "os.stat": lambda _: Path(__file__).exists(),
    "os.getcwd": lambda _: Path.cwd(),
    "os.getpid": lambda _: os.getpid(),
    "os.urandom": lambda _: os.urandom(8),
    "os.mkdir": lambda _: Path("made").mkdir(),
    "os.environ": lambda _: os.environ.get("HOME"),
    "socket.__new__": lambda _: socket.socket(),
    "socket.gethostname": lambda _: socket.gethostname(),
    "socket.getaddrinfo": lambda _: socket.getaddrinfo("localhost", 80),
    "subprocess.Popen": lambda _: subprocess.run(["true"], check=False),
    "os.system": lambda _: os.system("true"),
    "os.fork": lambda _: os.fork(),
    "sqlite3.connect": lambda _: sqlite3.connect(":memory:"),
    "http.client.connect": lambda _: http.client.HTTPConnection("127.0.0.1", 9).connect(),
    "mmap.__new__": lambda _: mmap.mmap(-1, 1),
    "ctypes.dlopen": lambda _: ctypes.CDLL(None),
    "time.time": lambda _: time.time(),
    "time.time_ns": lambda _: time.time_ns(),
    "time.monotonic": lambda _: time.monotonic(),
    "time.monotonic_ns": lambda _: time.monotonic_ns(),
    "time.perf_counter": lambda _: time.perf_counter(),
    "time.perf_counter_ns": lambda _: time.perf_counter_ns(),
    "time.process_time": lambda _: time.process_time(),
    "time.sleep": lambda _: sleep(0),
    "time.localtime": lambda _: time.localtime(),
    "time.strftime": lambda _: time.strftime("%Y"),
    "datetime.now": lambda _: datetime.now(UTC),
    "datetime.utcnow": lambda _: datetime.utcnow(),
    "datetime.today": lambda _: datetime.today(),
    "date.today": lambda _: date.today(),
    "random.random": lambda _: random.random(),
    "random.getrandbits": lambda _: random.getrandbits(8),
    "random.choice": lambda _: random.choice("ab"),
    "random.shuffle": lambda _: random.shuffle([1, 2]),
    "random.randint": lambda _: random.randint(1, 6),
    "random.seed": lambda _: random.seed(1),
    "random.Random() without a seed": lambda _: random.Random(),
    "uuid.uuid1": lambda _: uuid.uuid1(),
    "uuid.uuid4": lambda _: uuid.uuid4(),
    "id": lambda _: id(object()),
    "threading.get_ident": lambda _: threading.get_ident(),
    "print": lambda _: print("said"),
    "logging.Logger.debug": lambda _: logging.getLogger("quiet").debug("said"),
    "logging.Logger.warning": lambda _: logging.warning("said"),
}.items():
    WRONG[call] = call, deed  # type: ignore[assignment]


opened = SimpleNamespace(file=None, socket=None, database=None, postgres=None)
"""What a test opens before the transition uses it."""


@wrong("os.getpid")
def a_temporary_file(_ctx: Context) -> object:
    return tempfile.mkdtemp()


@wrong("os.urandom")
def secret(_ctx: Context) -> object:
    return secrets.token_hex()


@wrong("os.urandom")
def system_random(_ctx: Context) -> object:
    return random.SystemRandom().random()


@wrong("threading.Thread.start")
def thread(_ctx: Context) -> object:
    return threading.Thread(target=print).start()


@wrong("FileIO.read")
def read_opened(_ctx: Context) -> object:
    return opened.file.read(1)


@wrong("socket.send")
def send_opened(_ctx: Context) -> object:
    return opened.socket.send(b"x")


@wrong("Connection.execute")
def query_opened(_ctx: Context) -> object:
    return opened.database.execute("SELECT 1")


@wrong("psycopg.Connection.wait")
def query_postgres(_ctx: Context) -> object:
    return opened.postgres.execute("SELECT 1")


@wrong("datetime.now")
def swallowed(_ctx: Context) -> object:
    try:
        return datetime.now(UTC)
    except Exception:  # noqa: BLE001 - as careless code does
        return None


@wrong("datetime.now")
def by_a_default(_ctx: Context) -> object:
    return Stamped()


@dataclass
class Stamped:
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@innocent
def nothing(_ctx: Context) -> object:
    return None


@innocent
def its_circumstances(ctx: Context) -> object:
    return ctx.now + timedelta(days=1), ctx.id, ctx.key, ctx.seq


@innocent
def its_generator(ctx: Context) -> object:
    r = ctx.random
    return r.random(), r.choice("abc"), r.sample(range(9), 3), r.randint(1, 6), r.shuffle([1, 2]), ctx.uuid()


@innocent
def a_seeded_generator(_ctx: Context) -> object:
    return random.Random("seed").random()


@innocent
def a_copy(_ctx: Context) -> object:
    state = Idle(frozenset("ab"), {"a": 1})
    return replace(state, counts={**state.counts, "b": 2}), deepcopy(state.counts), state == Idle()


@innocent
def text(ctx: Context) -> object:
    state = Idle(frozenset("a"))
    said = f"{state} {ctx.now:%H:%M} {Decimal('1.10'):.1f} {1e9:,} %s" % repr(state)
    return said.encode().decode(), "{}".format(state)  # noqa: UP032 - one more way


@innocent
def money(_ctx: Context) -> object:
    return (Decimal("19.99") * 3 / 7).quantize(Decimal("0.01"))


@innocent
def order(_ctx: Context) -> object:
    return sorted({"b", "a"}), max([3, 1], key=lambda n: -n), dict.fromkeys("ba"), sum({1, 2})


@innocent
def a_date_that_is_read(_ctx: Context) -> object:
    return datetime.strptime("2026-01-01 +0000", "%Y-%m-%d %z"), date.fromisoformat("2026-01-01")


@innocent
def a_name_from_a_name(ctx: Context) -> object:
    return uuid.uuid5(ctx.id, "child"), uuid.UUID(int=1)


@innocent
def json(_ctx: Context) -> object:
    return msgspec.json.encode({"a": [1]}), msgspec.convert({"text": "a"}, Say)


@innocent
def a_file_that_is_none(_ctx: Context) -> object:
    with io.StringIO() as made:
        made.write("a")
        return made.getvalue(), Path("/etc") / "x" / ".." / "y"


@innocent
def an_import(_ctx: Context) -> object:
    import colorsys  # never loaded before the first test of this deed

    return colorsys.rgb_to_hls(0.1, 0.2, 0.3)


def do(deed: str, ctx: Context) -> None:
    if deed in WRONG:
        WRONG[deed][1](ctx)
    else:
        INNOCENT[deed](ctx)
