"""A TCP proxy that breaks connections on purpose: between a process and Postgres or the broker.

    with Proxy(database_url) as proxy:
        engine = create_engine(proxy.url)
        proxy.black_hole()
        ...
        proxy.heal()

It acknowledges what it reads, so the kernel's keep-alives and time limits see a peer in good health: harder on the programs
than a cable that is pulled out, and what a proxy or a server that hangs looks like.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
from enum import Enum
from typing import TYPE_CHECKING, Self

from sqlalchemy.engine import make_url

from chaos.commits import Conversation

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

HOST = "127.0.0.1"
_CHUNK = 65536
_PORTS = {"postgresql": 5432, "redis": 6379, "amqp": 5672}


class Way(Enum):
    """A direction."""

    UP = "client to server"
    DOWN = "server to client"


class Link:
    """One connection: its two ends, and what has become of them."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.ends = {Way.DOWN: client, Way.UP: server}
        self.talk = Conversation()
        self.holes: set[Way] = set()
        self.doomed = False

    def cut(self) -> None:
        """Reset it: both ends get an RST."""
        for end in self.ends.values():
            _reset(end)


class Proxy:
    """Listens on a free port of the loopback interface, and passes everything on to `upstream` until it is told otherwise.

    upstream: a server's URL; Postgres may be at a socket (`?host=/folder`). Attributes: `port`; `url`, that of `upstream` with
    the proxy's address in it; `accepted`, `swallowed` (bytes), `cuts` (connections) and `withheld` (of these, the ones that were cut
    after a commit), counted from the start.
    A direction of a connection that lost bytes stays dead after `heal`: a stream with a hole must not go on. All methods may be
    called from any thread, and have taken effect when they return.
    """

    def __init__(self, upstream: str) -> None:
        url = make_url(upstream)
        backend = url.get_backend_name()
        folder = url.query.get("host")
        self._upstream = (url.host or str(folder or HOST), url.port or _PORTS[backend])
        self._postgres = backend == "postgresql"
        self._place = socket.socket()  # keeps the port while nobody listens
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._place.bind((HOST, 0))
        self.port: int = self._place.getsockname()[1]
        url = url.difference_update_query(["host"]).set(host=HOST, port=self.port)
        self.url = url.render_as_string(hide_password=False)
        self.accepted = self.swallowed = self.cuts = self.withheld = 0
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._server: asyncio.Server | None = None
        self._whole = asyncio.Event()
        self._calm()

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._shut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._place.close()

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def heal(self) -> None:
        """Pass everything on again, and listen."""
        self._do(self._listen)

    def delay(self, seconds: float) -> None:
        """Hold every piece back for so long, in each direction."""
        self._do(self._listen, lambda: setattr(self, "_delay", seconds))

    def hold(self) -> None:
        """Nothing moves and nothing is lost until `heal`: a short interruption, which TCP bridges."""
        self._do(self._listen, self._whole.clear)

    def drop(self, way: Way, matching: bytes = b"") -> None:
        """Swallow what goes one way; with `matching`, from the first piece on that contains it."""
        self._do(self._listen, lambda: self._dropped.update({way: matching}))

    def black_hole(self) -> None:
        """Swallow everything, also of connections that are made now. Nothing is closed."""
        self._do(self._listen, lambda: self._dropped.update(dict.fromkeys(Way, b"")), self._whole.clear)

    def reset(self) -> None:
        """Reset what is connected and whatever connects."""
        self._do(self._listen, lambda: setattr(self, "_resets", True), self._cut)

    def refuse(self) -> None:
        """Reset what is connected and do not listen: the server is not there."""
        self._do(self._listen, self._deafen, self._cut)

    def cut(self) -> None:
        """Reset what is connected now, once."""
        self._do(self._cut)

    def cut_after_commit(self, times: int = 1, matching: str = "") -> None:
        """Let Postgres commit the next write (a COMMIT, or a write outside a transaction), and cut before it can say so.

        times: how many connections. matching: a regular expression that is found in the SQL of what was written.
        """
        wanted = re.compile(matching.encode())
        self._do(
            self._listen, lambda: setattr(self, "_commits", times), lambda: setattr(self, "_wanted", wanted)
        )

    def _calm(self) -> None:
        self._delay, self._resets = 0.0, False
        self._commits, self._wanted = 0, re.compile(b"")
        self._dropped: dict[Way, bytes] = {}
        self._whole.set()

    async def _listen(self) -> None:
        self._calm()
        if self._server is None:
            ours = socket.socket()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            ours.bind((HOST, self.port))
            self._server = await asyncio.start_server(self._accept, sock=ours)

    def _deafen(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _cut(self) -> None:
        for link in self._links:
            link.cut()
            self.cuts += 1

    async def _shut(self) -> None:
        self._calm()
        self._deafen()
        self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.accepted += 1
        host, port = self._upstream
        if self._resets:
            _reset(client)
            return
        try:
            from_server, server = await (
                asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
                if host.startswith("/")
                else asyncio.open_connection(host, port)
            )
        except OSError:
            _reset(client)
            return
        link = Link(client, server)
        self._links.add(link)
        with contextlib.suppress(asyncio.CancelledError):  # the proxy ends; asyncio would make a noise of it
            await self._serve(link, from_client, from_server)

    async def _serve(
        self, link: Link, from_client: asyncio.StreamReader, from_server: asyncio.StreamReader
    ) -> None:
        try:
            await asyncio.gather(
                self._pump(link, Way.UP, from_client), self._pump(link, Way.DOWN, from_server)
            )
        finally:
            self._links.discard(link)
            for end in link.ends.values():
                end.close()

    async def _pump(self, link: Link, way: Way, reader: asyncio.StreamReader) -> None:
        """Pass on what comes one way, until it ends; that is passed on, too, once the proxy is whole."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._move(link, way, data)
        await self._whole.wait()
        for end in link.ends.values():
            end.close()

    async def _move(self, link: Link, way: Way, data: bytes) -> None:
        if self._delay:
            await asyncio.sleep(self._delay)
        if not self._dropped:
            await self._whole.wait()  # held
        if way in link.holes or (way in self._dropped and self._dropped[way] in data):
            link.holes.add(way)
            self.swallowed += len(data)
            return
        if self._postgres and self._withheld(link, way, data):
            return
        link.ends[way].write(data)
        await link.ends[way].drain()

    def _withheld(self, link: Link, way: Way, data: bytes) -> bool:
        """Follow the conversation. Returns whether this answer is one that the client must not hear."""
        if way is Way.UP:
            sql = link.talk.asked(data)
            if sql is not None and self._commits > 0 and self._wanted.search(sql):
                self._commits -= 1
                link.doomed = True
            return False
        idle = link.talk.answered(data)
        if link.doomed and idle:
            self.cuts += 1
            self.withheld += 1
            link.cut()
        return link.doomed

    def _do(self, *steps: Callable[[], object] | Callable[[], Coroutine[None, None, None]]) -> None:
        """Take the steps in the loop's thread, in one go; returns when they are taken."""

        async def all_() -> None:
            for step in steps:
                taken = step()
                if asyncio.iscoroutine(taken):
                    await taken

        asyncio.run_coroutine_threadsafe(all_(), self._loop).result(timeout=30)


def _reset(end: asyncio.StreamWriter) -> None:
    """Close it by an RST, as a broken host does."""
    with contextlib.suppress(OSError):
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.transport.abort()
