"""A Celery worker as the protocol's *node*: its row, and one runtime in each process that runs effects."""

from __future__ import annotations

import logging
import os
import select
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.worker import state

from fsm_core.errors import BrokerUnavailable, ConfigurationError, FsmError, StoreError
from workers import settings as configuration
from workers.lease import Lease
from workers.runtime import Runtime
from workers.watchdog import Ears, Sign, Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from celery import Celery
    from celery.worker.consumer import Consumer

    from fsm_core.registry import Registry
    from fsm_core.types import ActionId
    from workers.broker import KombuBroker
    from workers.settings import Settings

log = logging.getLogger(__name__)


class Node:
    """What `workers.install(app)` gives: follows the app's worker through its life by Celery's signals.

    In the pools that run tasks in the worker's own process (threads, solo, gevent) one row and one runtime do; under
    prefork each child has its own, made after the fork.
    """

    def __init__(self, app: Celery, settings: Settings | None) -> None:
        self._app = app
        self._settings = settings
        self._registry: Registry | None = None
        self._runtimes: dict[int, Runtime] = {}
        self._lock = threading.Lock()
        self._slots = 1
        self._forks = False
        self._own: Lease | None = None
        self._watchdog: Watchdog | None = None
        self._word = Word()

    @property
    def settings(self) -> Settings:
        """The settings; read once. Raises ConfigurationError."""
        if self._settings is None:
            given = {**configuration.celeryconfig(), **_fsm_names(self._app)}
            self._settings = configuration.read(given)
        return self._settings

    @property
    def registry(self) -> Registry:
        """The machines and effects of this process; loaded once. Raises ConfigurationError, DefinitionError."""
        if self._registry is None:
            self._registry = configuration.load(self.settings.machines)
            for effects in self._registry.all_effects():
                if missing := effects.missing():
                    log.warning(
                        "machine %s has no effect for %s here", effects.machine.name, ", ".join(missing)
                    )
        return self._registry

    def listen(self) -> None:
        """Follow the worker's life: its start, its children, its end."""
        for signal, handler in (
            (signals.celeryd_after_setup, self._on_setup),
            (signals.worker_ready, self._on_ready),
            (signals.worker_shutting_down, self._on_drain),
            (signals.worker_process_shutdown, self._on_child_end),
            (signals.worker_shutdown, self._on_end),
        ):
            signal.connect(handler, weak=False)

    def runtime(self) -> Runtime:
        """The runtime of this process. Made here and not at import: a child connects after the fork."""
        pid = os.getpid()
        found = self._runtimes.get(pid)
        if found is None:
            with self._lock:
                found = self._runtimes.get(pid) or self._made(pid)
        return found

    def handle(self, ticket: UUID, ids: Sequence[ActionId], *, queue: str | None = None) -> None:
        """Run what a message from `queue` names. Without the database its ids stay published, and the message is sent again."""
        try:
            self.runtime().handle(ticket, ids, queue)
        except StoreError as error:
            log.warning("a message had to be dropped, its actions stay published: %s", error)

    def _made(self, pid: int) -> Runtime:
        kind = "child" if self._forks else "node"
        queues = {} if self._forks else self._queues()
        slots = 1 if self._forks else self._slots
        leave = None if self._forks else _leave
        runtime = Runtime(
            self.settings,
            self.registry,
            kind=kind,
            queues=queues,
            slots=slots,
            leave=leave,
            told=self._word.said,
        )
        if self._forks:
            Watchdog(replace(self.settings, liveness=None), runtime.signs).start()
        self._runtimes = {pid: runtime}
        return runtime

    def _queues(self) -> dict[str, int]:
        declared = self.settings.queues or {}
        return {
            name: min(declared.get(name, self._slots), self._slots)
            for name in self._app.amqp.queues.consume_from
        }

    def _check_bounds(self) -> None:
        """Raises ConfigurationError: what waits in one child of prefork cannot know when another one has a place again."""
        for name, slots in self._queues().items():
            if self._forks and slots < self._slots:
                raise ConfigurationError(
                    f"fsm_queues: {name} has {slots} of {self._slots} slots, which a prefork worker cannot keep; "
                    f"use --pool threads, or a worker of its own: --queues {name} --concurrency {slots}"
                )

    def _on_setup(self, instance: Any, **_: object) -> None:
        """Before the pool forks: what cannot work must fail here, with one clear error, and not in each child."""
        self._forks = "prefork" in type(instance).__module__ or "prefork" in str(instance.pool_cls)
        self._slots = int(instance.concurrency or 1)
        if self._forks:
            self._word.open()
        with _or_exit():
            self._check_bounds()
            self.registry.names()

    def _on_ready(self, sender: Consumer, **_: object) -> None:
        with _or_exit():
            with suppress(BrokerUnavailable), self._broker() as broker:  # one that is away is waited for
                broker.check()
            if self._forks:
                known = self.registry.known()
                self._own = Lease(self.settings, kind="node", queues=self._queues(), known=known, forks=True)
                self._own.start()
                self._watch(sender, self._own.signs)
            else:
                self._watch(sender, self.runtime().signs)

    def _watch(self, consumer: Consumer, signs: Sequence[Sign]) -> None:
        """A worker is alive while it hears the broker, too."""
        ears = Ears(consumer, self._ping, wonder=self.settings.stuck.total_seconds() / 4)
        self._watchdog = Watchdog(
            self.settings, [Sign("answer from the broker", ears.age), *signs], ears.leave
        )
        self._watchdog.start()

    @contextmanager
    def _broker(self) -> Iterator[KombuBroker]:
        from workers.broker import KombuBroker  # which needs the task's name, and the task needs this module

        broker = KombuBroker(self._app)
        try:
            yield broker
        finally:
            broker.close()

    def _ping(self) -> None:
        """Raises BrokerUnavailable."""
        with self._broker() as broker:
            broker.ping()

    def _on_drain(self, **_: object) -> None:
        """Within a signal handler: set a flag, and nothing else."""
        self._word.say()
        runtime = self._runtimes.get(os.getpid())
        if runtime is not None:
            runtime.drain()

    def _on_child_end(self, **_: object) -> None:
        runtime = self._runtimes.pop(os.getpid(), None)
        if runtime is not None:
            runtime.close()

    def _on_end(self, **_: object) -> None:
        self._on_child_end()
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._own is not None and self._own.pid == os.getpid():
            self._own.stop()


class Word:
    """What a prefork worker tells its children without a lock, from a signal's handler: that it was told to stop.

    A pipe that nobody reads: all who have inherited it see that there is something in it. Before it is opened nothing is said.
    """

    def __init__(self) -> None:
        self._ends: tuple[int, int] | None = None

    def open(self) -> None:
        """Before the children are forked."""
        self._ends = os.pipe()

    def say(self) -> None:
        """Say it; again is nothing new."""
        if self._ends is not None:
            os.write(self._ends[1], b"!")

    def said(self) -> bool:
        """Whether it was said."""
        return self._ends is not None and bool(select.select([self._ends[0]], [], [], 0)[0])


def _leave() -> None:
    """Take no more messages: Celery's own loop looks at this, and begins what SIGTERM does."""
    state.should_stop = os.EX_SOFTWARE


@contextmanager
def _or_exit() -> Iterator[None]:
    """A worker that cannot work ends with one line: Celery logs what its signals' handlers raise, and goes on."""
    try:
        yield
    except FsmError as error:
        log.critical("this worker cannot start: %s", error)
        raise SystemExit(1) from error


def _fsm_names(app: Celery) -> dict[str, object]:
    names = (
        "fsm_machines",
        "fsm_queues",
        "fsm_schema",
        "fsm_lease",
        "fsm_hung",
        "fsm_patience",
        "fsm_stuck",
        "fsm_database_url",
        "broker_url",
    )
    return {name: app.conf.get(name) for name in names if app.conf.get(name)}
