"""Effects in processes of their own, which can be killed, and whose death is nobody else's.

A child is started afresh, never forked, and is used again when its effect has ended. It shares one socket with its worker: claims
go out, outcomes come back, an empty frame is a heartbeat. It is at work for as long as that socket is open, so no child outlives its worker,
however that ends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime
from types import GenericAlias
from typing import TYPE_CHECKING, get_type_hints
from uuid import UUID

import msgspec

from fsm_core.delivery.attempt import Pulse
from fsm_core.delivery.outcome import Again, Completed, GaveUp, describe, from_json, to_json
from fsm_core.delivery.ports import Claimed
from fsm_core.errors import ConfigurationError, FsmError, InDoubt
from fsm_core.types import ActionId
from workers.effect import Here, found
from workers.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsm_core.delivery.outcome import Outcome
    from fsm_core.registry import AnyMachine

log = logging.getLogger(__name__)

START = "import sys; sys.path[:] = sys.argv[2:]; from workers.isolated import serve; serve(int(sys.argv[1]))"
PATIENCE_AT_START = 60.0
PATIENCE_AT_END = 10.0
MOST_BEATS = 0.05
"""Seconds between two heartbeats that are passed on."""

STDERR = 2
BEAT = b""
HEAD = 4


class Boot(msgspec.Struct, frozen=True):
    """What a child must know: which machines to load, and how much to log."""

    machines: tuple[str, ...]
    level: int


class Ready(msgspec.Struct, frozen=True):
    """A child's first word. error: why it can run nothing."""

    error: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """An outcome on its way back: one of them. refused: nothing was started, it knows no such machine."""

    completed: str | None = None
    again: Again | None = None
    gave_up: GaveUp | None = None
    refused: str | None = None


def _claims() -> Callable[[bytes], Claimed]:
    """Reads a claim, which travels as a list: its own annotations are for type checkers only."""
    hints = get_type_hints(Claimed, localns={"ActionId": ActionId, "UUID": UUID, "datetime": datetime})
    decoder = msgspec.json.Decoder(GenericAlias(tuple, tuple(hints[name] for name in Claimed._fields)))
    return lambda frame: Claimed._make(decoder.decode(frame))


class Wire:
    """Frames over a socket."""

    def __init__(self, end: socket.socket) -> None:
        self._socket, self._file = end, end.makefile("rb")
        self._lock = threading.Lock()

    def send(self, frame: bytes) -> None:
        """Send one. Raises OSError: the other end has gone."""
        with self._lock:
            self._socket.sendall(len(frame).to_bytes(HEAD, "big") + frame)

    def receive(self) -> bytes | None:
        """The next one; None: the other end has gone."""
        try:
            head = self._file.read(HEAD)
            if len(head) < HEAD:
                return None
            size = int.from_bytes(head, "big")
            frame = self._file.read(size)
        except OSError:
            return None
        return frame if len(frame) == size else None

    @property
    def open(self) -> bool:
        """Whether the other end is still there."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def patience(self, seconds: float | None) -> None:
        """How long `receive` waits at most; None: for ever."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()


class Child:
    """A process that runs one attempt at a time. Raises ConfigurationError at construction: it cannot load the machines."""

    def __init__(self, machines: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        self._wire = Wire(ours)
        self._lock = threading.Lock()
        self.alive = True
        with theirs:
            command = [sys.executable, "-c", START, str(theirs.fileno()), *sys.path]
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._wire.patience(PATIENCE_AT_START)
        with contextlib.suppress(OSError):
            self._wire.send(msgspec.json.encode(Boot(tuple(machines), logging.getLogger().level)))
        frame = self._wire.receive()
        error = self._ended() if frame is None else msgspec.json.decode(frame, type=Ready).error
        if error is not None:
            self.end()
            raise ConfigurationError(f"no process for isolated effects: {error}")
        self._wire.patience(None)

    def attempt(self, claimed: Claimed, machine: AnyMachine, beat: Callable[[], None]) -> Outcome:
        """Run one attempt there; returns what came of it. beat: is called with each of its heartbeats.

        Raises InDoubt: the process has ended under it, or nobody here can read its answer, as it has loaded newer code than this process.
        ConfigurationError: it knows no such machine or action.
        """
        with contextlib.suppress(OSError):
            self._wire.send(msgspec.json.encode(claimed))
        while (frame := self._wire.receive()) == BEAT:
            beat()
        if frame is None:
            raise InDoubt(f"its own process {self._ended()}")
        answer = msgspec.json.decode(frame, type=Answer)
        if answer.completed is not None:
            try:
                return Completed(tuple(from_json(answer.completed).read(machine, machine.version)))
            except FsmError as error:
                raise InDoubt(f"its own process answered what cannot be read: {describe(error)}") from error
        outcome = answer.again or answer.gave_up
        if outcome is None:
            raise ConfigurationError(f"its own process cannot run it: {answer.refused}")
        return outcome

    @property
    def waits(self) -> bool:
        """Whether it is there for another attempt: also what is idle may be killed, for its memory."""
        return self.alive and self._wire.open

    def kill(self) -> None:
        """End it now, with all that it has started. Returns at once."""
        with self._lock:
            if self.alive:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Let it leave its resources, then end it."""
        with contextlib.suppress(OSError):
            self._wire.close()
        if self.alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_AT_END)
            self._ended()

    def _ended(self) -> str:
        """How it ended. What it has left of its group ends first: until it is waited for, its number is nobody else's."""
        self.kill()
        with self._lock:
            self.alive = False
            status = self._process.wait()
        return f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


class Isolation:
    """The children of one process: as many as are in use at once, each used again. machines: what they load."""

    def __init__(self, machines: Sequence[str]) -> None:
        self._machines = machines
        self._idle: list[Child] = []
        self._lock = threading.Lock()

    @property
    def possible(self) -> bool:
        """Whether a child would know any machine."""
        return bool(self._machines)

    def take(self) -> Child:
        """A child for one attempt. Raises ConfigurationError: there can be none."""
        if not self._machines:
            raise ConfigurationError("an isolated effect needs fsm_machines: its own process loads them")
        while (child := self._first()) is not None:
            if child.waits:
                return child
            child.end()
        return Child(self._machines)

    def give(self, child: Child) -> None:
        """Take a child back, if it lives."""
        if child.alive:
            with self._lock:
                self._idle.append(child)
        else:
            child.end()

    def close(self) -> None:
        """End the idle ones; none is in use any more."""
        with self._lock:
            children, self._idle = self._idle, []
        for child in children:
            child.end()

    def _first(self) -> Child | None:
        with self._lock:
            return self._idle.pop() if self._idle else None


def serve(number: int) -> None:
    """A child's life, on the socket with that descriptor."""
    os.set_inheritable(number, False)  # noqa: FBT003 - what an effect starts must not hold the socket open
    for each in (signal.SIGINT, signal.SIGTERM):
        # A supervisor may tell all processes to stop: the worker decides. No SIG_IGN, which programs started here would inherit.
        signal.signal(each, lambda *_: None)
    wire = Wire(socket.socket(fileno=number))
    frame = wire.receive()
    if frame is None:
        return
    boot = msgspec.json.decode(frame, type=Boot)
    logging.basicConfig(level=boot.level, format="[%(asctime)s: %(levelname)s/isolated] %(message)s")
    try:
        served = _Served(wire, boot.machines)
    except Exception as error:
        log.exception("the machines cannot be loaded")
        served, ready = None, Ready(f"{type(error).__name__}: {error}")
    else:
        ready = Ready()
    with contextlib.suppress(OSError):  # the worker has died meanwhile; whoever listens to it hears that
        wire.send(msgspec.json.encode(ready))
    if served is not None:
        served.run()


class _Served:
    """What a child runs: attempts in the main thread, while another one listens for the end of the worker."""

    def __init__(self, wire: Wire, machines: Sequence[str]) -> None:
        self._wire, self._registry = wire, load(machines)
        self._here = Here()
        self._orders: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._left = threading.Event()

    def run(self) -> None:
        """Until the worker hangs up."""
        threading.Thread(target=self._listen, name="fsm-worker", daemon=True).start()
        claim = _claims()
        while (order := self._orders.get()) is not None:
            answer = msgspec.json.encode(self._answer(claim(order)))
            self._idle.set()
            with contextlib.suppress(OSError):
                self._wire.send(answer)
        self._here.close()
        self._left.set()

    def _listen(self) -> None:
        while (frame := self._wire.receive()) is not None:
            self._idle.clear()
            self._orders.put(frame)
        if self._idle.is_set():
            self._orders.put(None)
            self._left.wait(PATIENCE_AT_END)
        os.killpg(0, signal.SIGKILL)

    def _answer(self, claimed: Claimed) -> Answer:
        try:
            job = found(self._registry, claimed)
        except FsmError as error:
            return Answer(refused=str(error))
        pulse = Pulse(job.effect, time.monotonic)
        # Should the interpreter hang, so does the thread that listens: then this ends the process, some time after the worker gave it up.
        limit = job.effect.timeout.total_seconds() + PATIENCE_AT_END
        faulthandler.dump_traceback_later(limit, exit=True, file=STDERR)
        try:
            outcome = self._here.attempt(job, pulse, self._beats(pulse))
        finally:
            faulthandler.cancel_dump_traceback_later()
        if isinstance(outcome, Completed):
            return Answer(completed=to_json(job.machine, outcome, None))
        return Answer(
            again=outcome if isinstance(outcome, Again) else None,
            gave_up=outcome if isinstance(outcome, GaveUp) else None,
        )

    def _beats(self, pulse: Pulse) -> Callable[[], None]:
        """Passes heartbeats on, not too many of them, where somebody listens."""
        silence = pulse.effect.heartbeat_timeout
        if silence is None:
            return pulse.beat
        between = min(MOST_BEATS, silence.total_seconds() / 10)
        last = 0.0

        def beat() -> None:
            nonlocal last
            pulse.beat()
            if time.monotonic() - last >= between:
                last = time.monotonic()
                with contextlib.suppress(OSError):
                    self._wire.send(BEAT)

        return beat
