"""Seeing commits go by in a PostgreSQL conversation (protocol 3.0), without taking part in it.

Only what is needed to cut a connection when the server has committed and the client does not know.
Source: PostgreSQL's documentation, "Frontend/Backend Protocol", message formats.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SSL, _GSS = 80877103, 80877104
_WRITES = re.compile(rb"\b(INSERT|(?<!FOR )(?<!KEY )UPDATE|DELETE|MERGE|NOTIFY)\b", re.IGNORECASE)
_COMMITS = re.compile(rb"\s*(COMMIT|END)\b", re.IGNORECASE)
_IDLE = b"I"


class Frames:
    """Whole messages out of a stream that arrives in pieces: (type, body). The client's first ones have no type: b""."""

    def __init__(self, *, typed: bool) -> None:
        self.typed = typed
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take `data`; yields each message that is whole now."""
        self._buffer += data
        while True:
            head = int(self.typed)
            if len(self._buffer) < head + 4:
                return
            (length,) = struct.unpack_from("!I", self._buffer, head)
            if len(self._buffer) < head + length:
                return
            kind = bytes(self._buffer[:head])
            body = bytes(self._buffer[head + 4 : head + length])
            del self._buffer[: head + length]
            yield kind, body


class Conversation:
    """What client and server have told each other so far on one connection. Not for TLS, nor for libpq's pipelines."""

    def __init__(self) -> None:
        self._client, self._server = Frames(typed=False), Frames(typed=True)
        self._refusals = 0  # single bytes that answer a request for TLS or GSS
        self._named: dict[bytes, bytes] = {}
        self._round: list[bytes] = []
        self._written: list[bytes] = []
        self._in_transaction = False

    def asked(self, data: bytes) -> bytes | None:
        """The client says `data`. Returns the SQL that wrote, if the server is about to commit on account of it."""
        commits = None
        for kind, body in self._client.feed(data):
            if not kind:
                self._greeted(body)
            elif kind == b"Q":
                self._round.append(body.rstrip(b"\0"))
                commits = self._ended() or commits
            elif kind == b"P":
                name, sql, _ = body.split(b"\0", 2)
                self._named[name] = sql
            elif kind == b"B":
                self._round.append(self._named.get(body.split(b"\0", 2)[1], b""))
            elif kind == b"S":
                commits = self._ended() or commits
        return commits

    def answered(self, data: bytes) -> bool:
        """The server says `data`. Returns whether it is idle now: whatever was to be committed is."""
        skipped = data[: self._refusals]
        self._refusals -= len(skipped)
        idle = False
        for kind, body in self._server.feed(data[len(skipped) :]):
            if kind == b"Z":
                idle = body[:1] == _IDLE
                self._in_transaction = not idle
                if idle:
                    self._written = []
        return idle

    def _greeted(self, body: bytes) -> None:
        (code,) = struct.unpack_from("!I", body)
        if code in (_SSL, _GSS):
            self._refusals += 1
        else:
            self._client.typed = True

    def _ended(self) -> bytes | None:
        """A round of statements is over. In a transaction only a COMMIT commits; outside, each write does."""
        statements, self._round = self._round, []
        self._written += filter(_WRITES.search, statements)
        commits = not self._in_transaction or any(map(_COMMITS.match, statements))
        return b"\n".join(self._written) if commits and self._written else None
