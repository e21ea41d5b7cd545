"""What an unreliable broker, or somebody who reaches it, does to messages: doubled, replayed, shuffled, forged."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from typing import TYPE_CHECKING
from uuid import uuid4

import redis

from chaos.machines import QUEUES

if TYPE_CHECKING:
    from chaos.servers import Valkey

LOOK = 10
KEPT = 200


class Mischief:
    """Meddles with the queues, now and then. done: how often, by kind."""

    def __init__(self, valkey: Valkey, seed: int, share: float) -> None:
        self._client = valkey.client()
        self._random = random.Random(f"mischief {seed}")
        self._share = share
        self._known: set[int] = set()
        self._seen: list[tuple[str, bytes]] = []
        self.done: Counter[str] = Counter()

    def tick(self) -> None:
        """One look at each queue; nothing, if the broker is away."""
        try:
            for queue in QUEUES:
                self._meddle(queue)
            if self._seen and self._random.random() < self._share:
                self._send("replayed", *self._random.choice(self._seen))
        except redis.RedisError:
            self._client.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _meddle(self, queue: str) -> None:
        waiting: list[bytes] = self._client.lrange(queue, 0, LOOK)  # type: ignore[assignment]
        for message in waiting:
            if hash(message) in self._known:
                continue  # what was doubled is not doubled again: it would be without end
            self._known.add(hash(message))
            draw = self._random.random() / max(self._share, 1e-9)
            if draw < 0.5:
                self._send("doubled", queue, message)
            elif draw < 0.7:
                self._send("forged", queue, forged(message))
            elif draw < 0.8:
                self._client.rpoplpush(queue, queue)
                self.done["shuffled"] += 1
            self._seen = [*self._seen[-KEPT:], (queue, message)]

    def _send(self, what: str, queue: str, message: bytes) -> None:
        self._known.add(hash(message))
        self._client.lpush(queue, message)
        self.done[what] += 1


def forged(message: bytes) -> bytes:
    """The same ids under a ticket that nobody has issued."""
    envelope = json.loads(message)
    (_, ids), *rest = json.loads(base64.b64decode(envelope["body"]))
    body = json.dumps([[str(uuid4()), ids], *rest]).encode()
    return json.dumps({**envelope, "body": base64.b64encode(body).decode()}).encode()
