"""Plain Celery: a task that does nothing and of which nothing is kept. The floor under every design on top of it."""

import json
import time

import redis
from celery import Celery

from benchmarks.peers.port import BROKER_URL, VARIANT, in_threads, main

app = Celery("noop", broker=BROKER_URL)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
if VARIANT == "tuned":
    # Nothing here is kept anyway: what the broker's acknowledgement would save is only time.
    app.conf.broker_transport_options = {"ack_emulation": False}

_WAIT = 60.0
_BEGAN = "bench:began"


@app.task(name="noop")
def noop(told: bool = False) -> None:  # noqa: FBT001, FBT002 - a task's argument
    if told:
        broker().rpush(_BEGAN, time.time())


def broker() -> "redis.Redis":
    return redis.Redis.from_url(BROKER_URL)


class CeleryNoop:
    def __init__(self) -> None:
        self._submitted = 0
        self._broker = broker()

    def prepare(self, machines: int) -> None:
        """Nothing is kept."""

    def submit(self, count: int, clients: int) -> None:
        in_threads(self._one_by_one, count, clients)
        self._submitted += count

    def submit_many(self, count: int, batch: int) -> None:  # noqa: ARG002 - the port's
        """Celery has no call for many."""
        self.submit(count, 1)

    def done(self) -> int:
        waiting = self._broker.llen("celery") + self._broker.hlen("unacked")
        return self._submitted - int(waiting)

    def one(self) -> tuple[float, float]:
        sent = time.time()  # before: the task may begin before the call returns
        noop.delay(told=True)
        answer = self._broker.blpop([_BEGAN], timeout=_WAIT)
        if answer is None:
            raise TimeoutError
        self._submitted += 1
        return sent, float(json.loads(answer[1]))

    def _one_by_one(self, count: int) -> None:
        for _ in range(count):
            noop.delay()


if __name__ == "__main__":
    main(CeleryNoop())
