"""A payment provider and a carrier on a bad day, as one small HTTP server: what the orders of the demo have to do with.

    POST /charges  {order, card, total}   201 {receipt}, 402 declined; a repeated Idempotency-Key gets the same answer
    POST /refunds  {order}                200 {}
    POST /parcels  {order, address}       201 {parcel}, 422 no such address; it knows no idempotency keys
    GET  /parcels/ORDER                   200 {parcel}, 404
    GET  /stats                           200 {what was done so far, and what was done twice}

Some POSTs are refused (503), and some are left hanging for longer than anybody waits; half of those are done all the
same. Which ones, is drawn from the seed, the order and the number of the call: each run has the same luck. Nobody has
bad luck for ever: the fifth call for the same thing gets through.

By hand: `python -m examples.flaky [--port 8080] [--seed 1]` prints its URL.
"""

import argparse
import hashlib
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]

LONGER_THAN_ANYBODY_WAITS = 5.0
MOST_BAD_LUCK = 4
REFUSED, HANGS, HANGS_DONE = 0.16, 0.20, 0.24
DECLINED, NO_SUCH_ADDRESS = 0.06, 0.04


@dataclass
class Shop:
    """The books of both, and their luck. It knows nothing of HTTP."""

    seed: int = 1
    charges: Counter[str] = field(default_factory=Counter)
    parcels: Counter[str] = field(default_factory=Counter)
    refunds: set[str] = field(default_factory=set)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    bad_luck: Counter[str] = field(default_factory=Counter)
    answered: dict[str, Answer] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def luck(self, *what: object) -> float:
        """A number from 0 to 1, always the same for the same things."""
        digest = hashlib.sha256(repr((self.seed, *what)).encode()).digest()
        return int.from_bytes(digest[:8]) / 2**64

    def post(self, path: str, body: dict[str, Any], key: str) -> Answer | None:
        """Do what is asked, or not; None if the call is left hanging. Raises KeyError: no such path or field."""
        order, work = (
            str(body["order"]),
            {"/charges": self.charge, "/parcels": self.send, "/refunds": self.refund},
        )
        with self.lock:
            self.calls[path, order] += 1
            luck = self.luck(path, order, self.calls[path, order])
            if luck >= HANGS_DONE or self.calls[path, order] > MOST_BAD_LUCK:
                return work[path](order, body, key)
            if luck < REFUSED:
                self.bad_luck["refused"] += 1
                return 503, {"reason": "come back later"}
            if luck >= HANGS:
                work[path](order, body, key)
            self.bad_luck["hung"] += 1
            return None

    def charge(self, order: str, body: dict[str, Any], key: str) -> Answer:
        """Charge the card, once for each key."""
        if not key:
            return 400, {"reason": "an Idempotency-Key is missing"}
        if key not in self.answered:
            if self.luck(body["card"]) < DECLINED:
                self.answered[key] = 402, {"reason": "the card was declined"}
            else:
                self.charges[order] += 1
                self.answered[key] = 201, {"receipt": f"receipt-{order}"}
        return self.answered[key]

    def refund(self, order: str, _body: dict[str, Any], _key: str) -> Answer:
        """Give back what was charged."""
        self.refunds |= {order} & self.charges.keys()
        return 200, {}

    def send(self, order: str, body: dict[str, Any], _key: str) -> Answer:
        """Send a parcel, and one more each time."""
        if self.luck(body["address"]) < NO_SUCH_ADDRESS:
            return 422, {"reason": "no such address"}
        self.parcels[order] += 1
        return 201, {"parcel": f"parcel-{order}"}

    def get(self, path: str) -> Answer:
        """Look at the books."""
        with self.lock:
            order = path.removeprefix("/parcels/")
            if path == "/stats":
                return 200, self.stats()
            return (
                (200, {"parcel": f"parcel-{order}"})
                if self.parcels[order]
                else (404, {"reason": "no parcel"})
            )

    def stats(self) -> dict[str, int]:
        """Counts: of orders, of calls, and of what must never happen."""
        return {
            "calls": self.calls.total(),
            "refused": self.bad_luck["refused"],
            "hung": self.bad_luck["hung"],
            "charged": len(self.charges),
            "charged_twice": sum(times > 1 for times in self.charges.values()),
            "refunded": len(self.refunds),
            "sent": len(self.parcels),
            "sent_twice": sum(times > 1 for times in self.parcels.values()),
        }


class Handler(BaseHTTPRequestHandler):
    """HTTP in, HTTP out."""

    server: "Server"
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.answer(self.server.shop.get(self.path))

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            key = self.headers.get("Idempotency-Key") or ""
            self.answer(self.server.shop.post(self.path, json.loads(text), key))
        except (KeyError, ValueError, TypeError) as error:
            self.answer((400, {"reason": repr(error)}))

    def answer(self, answer: Answer | None) -> None:
        """Answer, or let the caller wait."""
        if answer is None:
            self.close_connection = True
            self.server.closing.wait(LONGER_THAN_ANYBODY_WAITS)
            return
        status, body = answer
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing: the books tell."""


class Server(ThreadingHTTPServer):
    """A thread for each connection; they end with the process."""

    def __init__(self, shop: Shop, port: int = 0) -> None:
        self.shop = shop
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what went wrong; a caller who went away is nothing to report."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def flaky(shop: Shop) -> Iterator[Server]:
    """A server on a free port, for as long as the context lasts."""
    with Server(shop) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="flaky", daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A payment provider and a carrier on a bad day.")
    parser.add_argument("--port", type=int, default=0, help="a free one, if none is given")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with Server(Shop(options.seed), options.port) as server, suppress(KeyboardInterrupt):
        print(server.url, flush=True)
        server.serve_forever()
