"""The broker: what it tells of itself, and what that means."""

from __future__ import annotations

from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from kombu.exceptions import KombuError

from fsm_core.errors import BrokerUnavailable
from workers.broker import shown
from workers.doctor.findings import Finding, error, fine, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery
    from kombu import Connection

KEPT = ("noeviction", "")
"""Policies that delete nothing; a broker that has none says nothing."""


class Broker(NamedTuple):
    """What is known of a broker. policy: what it deletes when it is full. logs: whether it writes what it has to disk.

    Both are None if it does not say: it is no Redis, or (`refused`) this user may not ask.
    """

    where: str
    host: str | None
    has_password: bool
    policy: str | None = None
    logs: bool | None = None
    refused: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether only this host reaches it: a loopback address, a socket, or this process."""
        if not self.host or self.host == "localhost" or self.host.startswith("socket:"):
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def read(app: Celery) -> Broker:
    """Ask the broker of a Celery app. Raises BrokerUnavailable."""
    connection = app.connection_for_write()
    found = Broker(
        shown(connection.as_uri(include_password=True)), connection.hostname, bool(connection.password)
    )
    with _asking(connection, found.where):
        client = getattr(connection.default_channel, "client", None)  # of a Redis or Valkey
        if client is None:
            return found
        client.ping()
        try:
            info = client.info()
        except connection.channel_errors as failure:
            return found._replace(refused=str(failure))
    return found._replace(policy=str(info.get("maxmemory_policy", "")), logs=bool(info.get("aof_enabled")))


def reached(broker: Broker) -> Iterator[Finding]:
    """It answered."""
    yield fine("broker", f"the broker {broker.where} answers")


def eviction(broker: Broker) -> Iterator[Finding]:
    """Does it delete queues when it is full?"""
    policy, advice = broker.policy, "CONFIG SET maxmemory-policy noeviction, and in its configuration file"
    if broker.refused is not None:
        said = f"the broker does not say what it deletes when it is full: {broker.refused}"
        yield warning("not-checked", said, "let the user of BROKER_URL ask: +info")
    elif policy is None:
        yield fine("broker-eviction", "it is no Redis, and deletes nothing by itself")
    elif policy in KEPT:
        yield fine("broker-eviction", "it deletes nothing when it is full (noeviction)")
    elif policy.startswith("volatile"):
        said = f"when it is full it deletes keys that expire ({policy}): queues do not, but nothing else is tried than noeviction"
        yield warning("broker-eviction", said, advice)
    else:
        said = f"when it is full it deletes queues ({policy}): their messages are missed and sent again, much later"
        yield error("broker-eviction", said, advice)


def persistence(broker: Broker) -> Iterator[Finding]:
    """For information: messages are hints, and a broker that forgets them costs time only."""
    if broker.logs is not None:
        does = (
            "writes an append-only file, which is not needed" if broker.logs else "writes no append-only file"
        )
        yield fine("broker-persistence", f"it {does}: messages that it loses are sent again")


def password(broker: Broker) -> Iterator[Finding]:
    """May anybody reach it who reaches its host?"""
    if broker.is_local or broker.has_password:
        yield fine(
            "broker-password", "it is on this host" if broker.is_local else "it is asked for with a password"
        )
    else:
        said = f"the broker at {broker.host} is asked for without a password: whoever reaches it can read and delete messages"
        yield warning(
            "broker-password", said, "give it a password (requirepass, or an ACL user), and BROKER_URL too"
        )


def unreachable(failure: BrokerUnavailable) -> Finding:
    """It did not answer."""
    said = f"the broker does not answer: {failure}"
    return error("broker", said, "start it, or correct BROKER_URL; what is due waits in the database")


CHECKS = (reached, eviction, persistence, password)


@contextmanager
def _asking(connection: Connection, where: str) -> Iterator[None]:
    errors = (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)
    try:
        connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=5)
        yield
    except errors as failure:
        raise BrokerUnavailable(str(failure) or type(failure).__name__, where) from failure
    finally:
        connection.release()
