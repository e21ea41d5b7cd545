"""kombu's Redis transport, for a broker whom we do not believe: what is no message is dropped, and not the consumer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from kombu import Connection
from kombu.transport import redis

from workers.forged import is_message

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

NAMES = {"redis": f"{__name__}:Transport", "rediss": f"{__name__}:SecureTransport"}
"""What Celery's `broker_transport` is for which scheme of a broker's address."""

_REPLIES = b"pidbox"
"""In the name of the queues in which who asks workers (Flower) gets its answers. They are no tasks."""


class Channel(redis.Channel):  # type: ignore[misc]
    """Looks at what BRPOP brings before kombu does: an exception of kombu's there ends the worker. And keeps what it publishes by."""

    _publishes_by: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's own signature
        if asynchronous:
            client = super()._create_client(asynchronous)
            client.parse_response = _wary(client.parse_response)
            return client
        # kombu makes one for each message, though it only wraps the pool of connections: that is a third of what publishing costs.
        kept = self._publishes_by
        if kept is None or kept.connection_pool is not self.pool:
            kept = self._publishes_by = super()._create_client()
        return kept


class Transport(redis.Transport):  # type: ignore[misc]
    """The same with that channel."""

    Channel = Channel


class SecureTransport(Transport):
    """The same, for `rediss://`."""


# So that messages, and Flower, show the address as it was given.
Connection.resolve_aliases.update({name: scheme for scheme, name in NAMES.items()})


def _wary(parse: Callable[..., Any]) -> Callable[..., Any]:
    def parsed(connection: object, command: str, **options: object) -> Any:
        answer = parse(connection, command, **options)
        if command == "BRPOP" and answer and not is_message(answer[1], task=_REPLIES not in answer[0]):
            log.warning("what is no message was dropped from %s: %.100r", answer[0], answer[1])
            return None  # as if nothing had come
        return answer

    return parsed
