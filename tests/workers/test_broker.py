"""The broker port over kombu, on a real Valkey."""

from uuid import uuid4

import pytest
import redis
from celery import Celery
from kombu import Connection

from fsm_core.delivery.ports import Message
from fsm_core.errors import BrokerUnavailable
from fsm_core.types import ActionId
from workers.broker import KombuBroker, shown
from workers.transport import NAMES


def message() -> Message:
    return Message(uuid4(), (ActionId(uuid4(), 1, 0),), "door.NotifyIRC")


def test_messages_wait_in_a_list_of_the_queues_name(broker_url: str) -> None:
    """Published by `queue=` alone: no binding stands between a wiped broker and the next message."""
    broker = KombuBroker(Celery("t", broker=broker_url))
    assert broker.depth("default") == 0
    broker.publish("default", [message(), message()])
    with redis.Redis.from_url(broker_url) as client:
        client.flushdb()

    broker.publish("default", [message()])

    assert broker.depth("default") == 1
    with redis.Redis.from_url(broker_url) as client:
        assert client.llen("default") == 1


def test_a_dashboard_sees_the_actions_name(broker_url: str) -> None:
    """Flower shows the shadow name, and the body holds ids only."""
    broker = KombuBroker(Celery("t", broker=broker_url))
    sent = message()

    broker.publish("default", [sent])

    with redis.Redis.from_url(broker_url, decode_responses=True) as client:
        raw = str(client.lindex("default", 0))
    assert '"shadow": "door.NotifyIRC"' in raw
    assert '"task": "fsm.run"' in raw


def test_what_publishes_is_made_once_for_its_connections(broker_url: str) -> None:
    with Connection(broker_url, transport=NAMES["redis"]) as connection:
        channel = connection.default_channel
        first = channel._create_client()
        assert channel._create_client() is first
        assert channel._create_client(asynchronous=True) is not first

        channel._disconnect_pools()

        assert channel._create_client() is not first
        assert channel._create_client().ping()


def test_an_absent_broker_says_which_and_where() -> None:
    """The password is masked; every verb raises the same error."""
    broker = KombuBroker(Celery("t", broker="redis://:hunter2@127.0.0.1:1/0"))

    for ask in (broker.ping, lambda: broker.depth("q"), lambda: broker.publish("q", [message()])):
        with pytest.raises(BrokerUnavailable) as caught:
            ask()
        assert "127.0.0.1:1" in str(caught.value)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("amqp://user:secret@host//", "amqp://user:***@host//"),
        ("redis://host/1", "redis://host/1"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, expected: str) -> None:
    assert shown(url) == expected


def test_an_error_is_no_evidence_of_an_empty_queue(broker_url: str) -> None:
    """A broker that cannot tell how long its queue is has not lost it: nothing is sent or given up on that."""
    with redis.Redis.from_url(broker_url) as client:
        client.set("default", "no list")

    with pytest.raises(BrokerUnavailable, match="WRONGTYPE"):
        KombuBroker(Celery("t", broker=broker_url)).depth("default")
