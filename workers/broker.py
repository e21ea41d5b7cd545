"""The broker port over kombu: every transport that Celery speaks. Messages are hints; rows are the truth.

Keys in the broker: one list per queue, named as the queue. Nothing else: `queue=` only, by the anonymous exchange, so that
a wiped broker (bindings and all) takes messages again at once.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from amqp.exceptions import ChannelError
from kombu.exceptions import KombuError

from fsm_core.errors import BrokerUnavailable, ConfigurationError
from fsm_core.postgres.crash import Point, reached
from workers.app import TASK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celery import Celery
    from kombu import Connection, Producer

    from fsm_core.delivery.ports import Message

NOT_FOUND = "404"
_PASSWORD = re.compile(r"(://[^:/@]*:)[^@]*@")


def shown(url: str) -> str:
    """The address without its password, for messages."""
    return _PASSWORD.sub(r"\1***@", url)


class KombuBroker:
    """One connection to the broker of a Celery app, opened when needed and again after an error."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        template = app.connection_for_write()
        self.where = shown(template.as_uri(include_password=True))
        self._errors = (KombuError, OSError, *template.connection_errors, *template.channel_errors)

    def publish(self, queue: str, messages: Sequence[Message]) -> None:
        """Send all of `messages` to `queue`. Raises BrokerUnavailable; some may have been sent then."""
        with self._asking() as connection:
            producer = self._producer = self._producer or self._app.amqp.Producer(connection)
            # One round trip for all of them, where the transport can.
            with producer.batch() if len(messages) > 1 else contextlib.nullcontext():
                for message in messages:
                    self._app.send_task(
                        TASK,
                        args=[str(message.ticket), [str(i) for i in message.ids]],
                        queue=queue,
                        producer=producer,
                        shadow=message.label,
                        ignore_result=True,
                        retry=False,
                        add_to_parent=False,
                    )
        reached(Point.RELAY_AFTER_PUBLISH)

    def depth(self, queue: str) -> int:
        """How many messages wait in `queue`; one that does not exist is empty. Raises BrokerUnavailable."""
        with self._asking() as connection:
            try:
                found = connection.default_channel.queue_declare(queue, passive=True)
            except ChannelError as error:
                if str(error.reply_code) != NOT_FOUND:
                    raise  # it cannot tell, which is no evidence that messages were lost
                return 0
            return int(found.message_count)

    def ping(self) -> None:
        """Raise BrokerUnavailable, if the broker does not answer."""
        with self._asking() as connection:
            client = getattr(connection.default_channel, "client", None)  # kombu's redis transport
            if client is not None:
                client.ping()

    def check(self) -> None:
        """Raise ConfigurationError, if the broker throws queues away when its memory is full; BrokerUnavailable, if it is not there.

        One that does not tell, or is no Redis, passes.
        """
        with self._asking() as connection:
            channel = connection.default_channel
            client = getattr(channel, "client", None)  # kombu's redis transport
            try:
                policy = "" if client is None else str(client.info("memory").get("maxmemory_policy"))
            except channel.ResponseError:  # not for this user
                return
        if policy.startswith("allkeys"):
            raise ConfigurationError(
                f"the broker ({self.where}) has maxmemory-policy {policy}: it would drop queues; set it to noeviction"
            )

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it may be broken, which is why it is closed
                connection.release()

    @contextlib.contextmanager
    def _asking(self) -> Iterator[Connection]:
        try:
            if self._connection is None:
                connection = self._app.connection_for_write()
                connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=5)
                self._connection = connection
            yield self._connection
        except self._errors as error:
            self.close()
            raise BrokerUnavailable(str(error) or type(error).__name__, self.where) from error
