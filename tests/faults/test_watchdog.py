"""The watchdog: who looks alive, and who is ended."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fsm_core.delivery.finish import Finished
from fsm_core.errors import BrokerUnavailable, ConfigurationError
from fsm_core.registry import Registry
from tests.waiting import eventually
from tests.workers.jobs import jobs
from tests.workers.test_finisher import Keeping, result
from workers import finisher as finishing
from workers import watchdog as module
from workers.finisher import Finisher
from workers.settings import Settings, read
from workers.watchdog import FAILED, Ears, Mark, Sign, Watchdog

OLD = 1000.0


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit statuses with which the process would have ended."""
    ended: list[int] = []
    monkeypatch.setattr(module.os, "_exit", ended.append)
    monkeypatch.setattr(module.faulthandler, "dump_traceback", lambda **_: None)
    return ended


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Start a watchdog over signs; returns its liveness file."""
    started: list[Watchdog] = []

    def start(*signs: Sign, leave: Callable[[], bool] = lambda: False) -> Path:
        settings = Settings(
            "", lease=timedelta(seconds=5), stuck=timedelta(seconds=1), liveness=tmp_path / "alive"
        )
        started.append(Watchdog(settings, signs, leave))
        started[-1].start()
        return tmp_path / "alive"

    yield start
    for watchdog in started:
        watchdog.stop()
        watchdog._thread.join()


class Counted:
    """An age that counts how often it was asked for."""

    def __init__(self, age: float) -> None:
        self.age, self.asked = age, 0

    def __call__(self) -> float:
        self.asked += 1
        return self.age


def test_a_process_whose_signs_are_fresh_looks_alive(watch: Callable[..., Path], ended: list[int]) -> None:
    alive = watch(Sign("tick", Mark().age), Sign("beat", lambda: 0.0, vital=False))

    eventually(alive.exists, what="the file is touched")
    assert ended == []


def test_one_stale_sign_is_enough_not_to_look_alive(watch: Callable[..., Path], ended: list[int]) -> None:
    """Also one that ends nothing, as a database that is away."""
    stale = Counted(OLD)
    alive = watch(Sign("tick", Mark().age), Sign("beat", stale, vital=False))

    eventually(lambda: stale.asked > 3, what="it has looked several times")
    assert not alive.exists()
    assert ended == []


def test_a_vital_sign_that_is_stale_ends_the_process(
    watch: Callable[..., Path], ended: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    alive = watch(Sign("beat", Mark().age), Sign("tick", lambda: OLD))

    eventually(lambda: ended == [FAILED], what="the process ends")
    assert "no tick for 1000 s" in caplog.text
    assert not alive.exists()


def test_a_process_that_stood_still_as_a_whole_is_given_time(
    ended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a SIGSTOP every sign is old, and nobody has had a turn yet to renew it."""
    clock, passed, looks = module.time.monotonic, [0.0], iter([False] * 3)

    def stand_still(_pause: float) -> bool:
        passed[0] += OLD
        return next(looks, True)

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock() + passed[0]))
    tick = Counted(OLD)
    watchdog = Watchdog(Settings("", stuck=timedelta(seconds=1)), [Sign("tick", tick)])
    monkeypatch.setattr(watchdog, "_stop", SimpleNamespace(wait=stand_still))
    watchdog.start()
    watchdog._thread.join(timeout=10)

    assert tick.asked == 3
    assert ended == []


def test_who_can_leave_in_good_order_is_not_killed(watch: Callable[..., Path], ended: list[int]) -> None:
    asked = threading.Event()

    def leave() -> bool:
        asked.set()
        return True

    watch(Sign("tick", lambda: OLD), leave=leave)

    assert asked.wait(timeout=10)
    assert ended == []


class Loop:
    """A Celery consumer, as far as Ears looks at it."""

    def __init__(self, *, turns: bool = True, **channel: Any) -> None:
        self.connection, self.pool = object(), object()
        self.turns = turns
        qos = SimpleNamespace(can_consume=lambda: not channel.get("full", False))
        self.task_consumer = SimpleNamespace(channel=SimpleNamespace(qos=qos, **channel))

    def call_soon(self, call: Callable[[], None]) -> None:
        if self.turns:
            call()


def away() -> None:
    raise BrokerUnavailable("away", "there")


def there() -> None:
    pass


@pytest.mark.parametrize(
    ("loop", "ping", "hears"),
    [
        pytest.param(Loop(_brpop_sent_at=0.0), there, False, id="deaf"),
        pytest.param(Loop(_brpop_sent_at=0.0), away, True, id="the broker is away"),
        pytest.param(Loop(_brpop_sent_at=0.0, full=True), there, True, id="no room for more"),
        pytest.param(Loop(_brpop_sent_at=float("inf")), there, True, id="it was answered"),
        pytest.param(Loop(), there, True, id="no redis"),
        pytest.param(Loop(turns=False), there, False, id="the loop is stuck"),
    ],
)
def test_who_hears(loop: Loop, ping: Callable[[], None], hears: bool) -> None:
    """A broker that is away, and a worker that has its hands full, are no deafness."""
    ears = Ears(loop, ping, wonder=0)
    ears._heard -= OLD

    assert (ears.age() < OLD) is hears


def test_kombu_says_when_it_asked(broker_url: str) -> None:
    """What Ears reads is private to kombu: with a version that has it no more, this fails, and not the worker's hearing."""
    from celery import Celery

    app = Celery("t", broker=broker_url)
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        app.amqp.TaskConsumer(channel).consume()
        assert channel._brpop_sent_at is None
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.01)
        assert channel._brpop_sent_at > 0
        assert channel.qos.can_consume()


def test_a_transition_that_never_ends_makes_its_process_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commits wait behind it: the age grows while it lasts, and is 0 before and after."""
    entered, gate = threading.Event(), threading.Event()

    def finish(*_: object) -> Finished:
        entered.set()
        gate.wait()
        return Finished()

    monkeypatch.setattr(finishing, "finish", finish)
    finisher = Finisher(Keeping(), Registry([jobs]))  # type: ignore[arg-type]
    finisher.start()
    assert finisher.busy() == 0
    finisher.put(result())
    assert entered.wait(timeout=10)
    before = eventually(finisher.busy, what="it is at work")

    eventually(lambda: finisher.busy() > before, what="and goes on")
    gate.set()

    eventually(lambda: finisher.busy() == 0, what="it has ended")
    finisher._open.clear()
    finisher.stop()


@pytest.mark.parametrize(("variable", "setting"), [("FSM_PATIENCE", "patience"), ("FSM_STUCK", "stuck")])
def test_both_limits_are_settings(variable: str, setting: str) -> None:
    """In seconds, from the environment or `celeryconfig.py`; what is none is refused by name."""
    base = {"DATABASE_URL": "postgresql:///x"}

    assert getattr(read({}, {**base, variable: "2.5"}), setting) == timedelta(seconds=2.5)
    assert getattr(read({variable.lower(): 7}, base), setting) == timedelta(seconds=7)
    with pytest.raises(ConfigurationError, match=variable):
        read({}, {**base, variable: "soon"})
