"""The demo's watch over its processes: what was stopped is told, what gave up ends the demo with its log."""

import io
import signal
from pathlib import Path

import pytest
from rich.console import Console

from examples import demo_scene
from examples.demo_scene import MOST_ENDS, DemoError, Watch
from workers.dev.supervise import Ended


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def watch(tmp_path: Path, said: io.StringIO) -> Watch:
    (tmp_path / "worker-1.log").write_text("".join(f"line {n}\n" for n in range(100)) + "no memory\n")
    return Watch(Console(file=said), tmp_path)


@pytest.mark.parametrize(("status", "how"), [(-signal.SIGKILL, "was ended by SIGKILL"), (0, "has ended")])
def test_what_was_stopped_is_told_once(watch: Watch, said: io.StringIO, status: int, how: str) -> None:
    watch.ended.append(Ended("worker-1", status, 0.2))

    watch.check()
    watch.check()

    assert said.getvalue() == f"  worker-1 {how}; the supervisor starts it again\n"


def test_what_gave_up_ends_the_demo_with_its_log(watch: Watch) -> None:
    watch.ended.append(Ended("worker-1", 1, 0.2))

    with pytest.raises(DemoError, match="worker-1 ended with status 1") as caught:
        watch.check()

    assert str(caught.value).splitlines()[-2:] == ["    line 99", "    no memory"]
    assert "line 50" not in str(caught.value)


def test_what_does_not_stay_alive_ends_the_demo(watch: Watch) -> None:
    watch.ended += [Ended("relay", -signal.SIGSEGV, 0.2)] * (MOST_ENDS + 1)

    with pytest.raises(DemoError, match="relay ended with status -11"):
        watch.check()


def test_it_waits_as_long_as_something_moves(watch: Watch) -> None:
    counts = iter([0, 1, 1, 2, 3])

    watch.until(lambda: next(counts), 3, "orders")

    assert next(counts, None) is None


def test_it_gives_up_when_nothing_moves(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_scene, "PATIENCE", 0.0)

    with pytest.raises(DemoError, match="orders: 7 of 10, and nothing moved") as caught:
        watch.until(lambda: 7, 10, "orders")

    assert "no memory" in str(caught.value)
