"""What a machine's functions must not do is caught by name at its line; what they may do passes; nothing stays switched on."""

import cProfile
import gc
import re
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from operator import is_
from pathlib import Path
from types import FrameType
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.engine import make_url

from fsm_core import Context, Effects, Rejected, Timeout, advance, begin, replay
from fsm_core.errors import FsmError
from fsm_core.memory import MemoryStore
from fsm_core.purity import Impure, guarded
from fsm_core.purity.watch import LIBRARIES, Watch, watching
from tests.purity import deeds, machines
from tests.purity.deeds import INNOCENT, WRONG, Go, Gone, Idle, Say, Tell, opened
from tests.purity.machines import errands, everywhere, shifty, wrong_in

CTX = Context(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1), "7", 1)
SOURCE, DEEDS = Path(machines.__file__), Path(deeds.__file__)


@pytest.fixture(autouse=True)
def nothing_stays_switched_on() -> Iterator[None]:
    tables = [(machine.edges, machine.entries, machine._tables.routes) for machine in (errands, everywhere)]
    yield
    wrong_in.function = ""
    assert sys.getprofile() is None
    assert not watching()
    assert gc.isenabled()
    for machine, before in zip((errands, everywhere), tables, strict=True):
        assert all(map(is_, before, (machine.edges, machine.entries, machine._tables.routes)))


@pytest.fixture
def resources(tmp_path: Path) -> Iterator[None]:
    """What `deeds.opened` holds open."""
    here, there = socket.socketpair()
    with (
        Path(__file__).open("rb", buffering=0) as file,
        here,
        there,
        sqlite3.connect(tmp_path / "db") as connection,
    ):
        opened.file, opened.socket, opened.database = file, here, connection
        yield
    connection.close()


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> Iterator[None]:
    """An open connection, for the deed that uses one."""
    if request.node.callspec.params["deed"] != "query_postgres":
        yield
        return
    with psycopg.connect(
        make_url(request.getfixturevalue("database_url"))
        .set(drivername="postgresql")
        .render_as_string(hide_password=False)
    ) as opened.postgres:
        yield


@pytest.mark.parametrize("deed", WRONG)
def test_what_is_forbidden_is_named_with_the_function_and_the_line(
    deed: str, resources: None, postgres: None
) -> None:
    call, function = WRONG[deed]
    with pytest.raises(Impure) as caught, guarded(errands):
        advance(errands, Idle(), Go(deed), CTX)

    impure = caught.value
    assert impure.call == call
    assert re.fullmatch(rf"go \({re.escape(str(SOURCE))}:\d+\)", impure.function)
    assert impure.detail == {"secret": "in secrets.token_hex", "a_temporary_file": "in tempfile.mkdtemp"}.get(
        deed, impure.detail
    )
    file, _, line = (impure.place or "").rpartition(":")
    code = function.__code__  # type: ignore[attr-defined]
    assert file == str(DEEDS)
    within = range(code.co_firstlineno, code.co_firstlineno + 6)
    assert int(line) in within or "default_factory" in DEEDS.read_text().splitlines()[int(line) - 1]
    assert call in str(impure)
    assert str(impure.place) in str(impure)


@pytest.mark.parametrize("deed", INNOCENT)
def test_what_only_computes_passes(deed: str) -> None:
    expected = advance(errands, Idle(), Go(deed), CTX)
    sys.modules.pop("colorsys", None)

    with guarded(errands):
        assert advance(errands, Idle(), Go(deed), CTX) == expected


@pytest.mark.parametrize(
    "function", ["on", "otherwise", "enter", "route", "after", "timeout", "restore", "invariant"]
)
def test_every_function_of_a_machine_is_watched(function: str) -> None:
    wrong_in.function = function
    with pytest.raises(Impure) as caught, guarded(everywhere):  # noqa: PT012 - all of them, one is wrong
        begin(everywhere, Gone())
        advance(everywhere, Idle(), Go())
        advance(everywhere, Gone(), Go())
        advance(everywhere, Gone(), Timeout("Gone"))
        everywhere.routed(Say())
        everywhere.state_timeout(Gone())
        everywhere.restored(Gone())
        everywhere.violated(Gone())

    assert caught.value.call == "datetime.now"
    # Of a state timeout's two functions the signature is that of the one that decides.
    named = "timeout" if function == "after" else function
    assert caught.value.function.startswith(f"{named} ({SOURCE}:")


def test_a_store_is_no_transition() -> None:
    """Its own clocks, locks and ids are not the machine's; nor are effects."""
    effects = Effects(errands)
    said: list[float] = []

    @effects.act
    def say(action: Say) -> None:
        said.append(datetime.now(UTC).timestamp())

    with guarded(errands):
        store = MemoryStore(effects)
        store.start(errands)
        store.start(errands, 1)
        store.advance(errands, 1, Go(), dedup_key="once")
        store.drain()

    assert len(said) == 1


def test_a_store_that_goes_on_after_a_bug_does_not_hide_it() -> None:
    """An event that is held is offered again, and its bug is logged: the block ends with the error all the same."""
    effects = Effects(everywhere)

    @effects.act
    def say(action: Say) -> Go:
        wrong_in.function = "otherwise"
        return Go()

    @effects.act
    def tell(action: Tell) -> None: ...

    store = MemoryStore(effects)
    reached = False
    with pytest.raises(Impure, match=r"datetime\.now"), guarded(everywhere):  # noqa: PT012 - how far it comes is the point
        store.start(everywhere, 1)
        store.advance(everywhere, 1, Go())
        store.drain()
        reached = True

    assert reached


def test_an_error_that_follows_from_it_does_not_hide_it() -> None:
    with pytest.raises(Impure) as caught, guarded(errands):  # noqa: PT012 - as a test looks that goes on
        try:
            advance(errands, Idle(), Go("open"), CTX)
        except FsmError:
            raise AssertionError("what the test expected did not come") from None

    assert isinstance(caught.value.__cause__, AssertionError)


def test_a_watched_machine_answers_and_refuses_as_ever() -> None:
    with guarded(shifty):
        assert advance(shifty, Idle(), Go("by_order"), CTX).state == Gone("by_order")
        with pytest.raises(Rejected, match="a b"):
            advance(shifty, Idle(frozenset("ab")), Go("refused_by_order"), CTX)
        with pytest.raises(ZeroDivisionError):
            advance(shifty, Idle(), Go("a_bug"), CTX)


def test_a_function_that_changes_what_it_was_given_is_caught() -> None:
    with pytest.raises(Impure, match="changes what it was given") as caught, guarded(shifty):
        advance(shifty, Idle(), Go("changing"), CTX)

    assert (caught.value.call, caught.value.place) == ("changes what it was given", None)


def test_a_generator_of_actions_is_watched_while_it_is_read() -> None:
    with pytest.raises(Impure, match=r"datetime\.now"), guarded(shifty):
        advance(shifty, Idle(), Go("by_generator"), CTX)


def test_after_the_first_one_the_next_is_caught_too() -> None:
    with pytest.raises(Impure, match=r"time\.time "), guarded(errands):  # noqa: PT012 - three decisions
        with pytest.raises(Impure, match=r"time\.time "):
            advance(errands, Idle(), Go("time.time"), CTX)
        with pytest.raises(Impure, match=r"random\.random"):
            advance(errands, Idle(), Go("random.random"), CTX)
        with pytest.raises(Impure, match="is impure: open"):
            advance(errands, Idle(), Go("open"), CTX)


def test_outside_the_block_nothing_is_judged() -> None:
    with guarded(errands):
        advance(errands, Idle(), Go(), CTX)

    assert advance(errands, Idle(), Go("time.time"), CTX).state == Gone("time.time")
    assert advance(errands, Idle(), Go("open"), CTX).state == Gone("open")
    with guarded(everywhere):
        assert advance(errands, Idle(), Go("open"), CTX).state == Gone("open")


def test_blocks_may_be_nested() -> None:
    """Each block ends with what was found in it, so the inner one does too."""
    with guarded(errands):
        with guarded(errands, everywhere):
            assert advance(errands, Idle(), Go(), CTX).state == Gone("nothing")
        with pytest.raises(Impure, match="is impure: open"), guarded(errands):
            advance(errands, Idle(), Go("open"), CTX)
        assert advance(errands, Idle(), Go(), CTX).state == Gone("nothing")


def test_blocks_may_overlap() -> None:
    """Of threads, or of tasks: the one that is left still judges, and the last one leaves nothing behind."""
    first, second = guarded(errands), guarded(errands)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(Impure) as caught:
        advance(errands, Idle(), Go("open"), CTX)
    with pytest.raises(Impure):
        second.__exit__(None, None, None)

    assert caught.value.call == "open"
    assert advance(errands, Idle(), Go("open"), CTX).state == Gone("open")


def test_a_profiler_that_was_there_comes_back() -> None:
    seen: list[str] = []

    def profiler(frame: FrameType, event: str, arg: object) -> None:
        seen.append(frame.f_code.co_name)

    def is_noticed() -> None: ...

    with guarded(errands):
        sys.setprofile(profiler)
        try:
            advance(errands, Idle(), Go(), CTX)
            assert sys.getprofile() is profiler
            is_noticed()
        finally:
            sys.setprofile(None)

    assert "is_noticed" in seen
    assert "go" not in seen


def test_cprofile_runs_on() -> None:
    def is_noticed() -> None: ...

    profile = cProfile.Profile()
    with guarded(errands), profile:
        advance(errands, Idle(), Go(), CTX)
        is_noticed()

    assert "is_noticed" in {name for _, _, name in (key for key in _stats(profile))}


def _stats(profile: cProfile.Profile) -> Iterator[tuple[str, int, str]]:
    profile.create_stats()
    yield from profile.stats  # type: ignore[attr-defined]


def test_another_thread_does_as_it_likes_meanwhile() -> None:
    """A hook hears of every thread's files; only the one that decides is judged."""
    begun, done = threading.Event(), threading.Event()
    read: list[str] = []

    def reader() -> None:
        begun.wait(10)
        read.append(SOURCE.read_text()[:3])
        done.set()

    def decide() -> bool:
        begun.set()
        return done.wait(10)

    thread = threading.Thread(target=reader)
    thread.start()
    assert Watch("decide").run(decide)
    thread.join()
    assert read == ['"""']


def test_two_threads_may_decide_at_once() -> None:
    """Each is judged by itself, also while the other is in the middle of a decision."""
    begun, done = threading.Event(), threading.Event()

    def other() -> None:
        begun.wait(10)
        try:
            with pytest.raises(Impure, match="is impure: open"):
                advance(errands, Idle(), Go("open"), CTX)
        finally:
            done.set()

    def decide() -> bool:
        begun.set()
        return done.wait(10)

    with pytest.raises(Impure, match="is impure: open"), guarded(errands):  # noqa: PT012 - the thread must end within
        thread = threading.Thread(target=other)
        thread.start()
        assert Watch("decide").run(decide)
        thread.join()


@pytest.mark.parametrize("function", ["on", "timeout"])
def test_an_installed_machine_is_not_taken_for_a_library(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is the machine's own function's, where no other code counts as the machine's."""
    monkeypatch.setattr("fsm_core.purity.watch.LIBRARIES", (*LIBRARIES, str(SOURCE)))
    wrong_in.function = function
    with pytest.raises(Impure) as caught, guarded(everywhere):
        replay(everywhere, Idle(), [Go(), Timeout("Gone")])

    line = int((caught.value.place or "").rpartition(":")[2])
    assert SOURCE.read_text().splitlines()[line - 1].strip() == f'here("{function}")'
    assert caught.value.detail == "in tests.purity.machines.here"


def test_a_transition_is_watched_in_whatever_thread_it_runs() -> None:
    caught: list[Impure] = []

    def decide() -> None:
        with pytest.raises(Impure) as raised:
            advance(errands, Idle(), Go("open"), CTX)
        caught.append(raised.value)

    with pytest.raises(Impure), guarded(errands):  # noqa: PT012 - the thread must end within the block
        thread = threading.Thread(target=decide)
        thread.start()
        thread.join()

    assert [impure.call for impure in caught] == ["open"]


class Noisy:
    """A finaliser that does what a transition may not; only the collector finds it."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        SOURCE.read_text()


def test_garbage_of_others_is_not_taken_for_the_transitions_own() -> None:
    def busy() -> int:
        return len([[] for _ in range(100_000)])  # enough for a collection, were it not held off

    gc.collect()
    Noisy()
    assert Watch("busy").run(busy) == 100_000
    gc.collect()
