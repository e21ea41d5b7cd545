"""What depends on the process, and on nothing that one process could notice, is caught by a second one."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from fsm_core import ChildEnded, Context, Failed, Rejected, Spawn, Timeout, advance, begin, replay
from fsm_core.errors import ConfigurationError
from fsm_core.purity import Impure, Twin, guarded
from fsm_core.purity.told import back, given, told
from tests.purity.deeds import Go, Gone, Idle, Left, Say
from tests.purity.machines import calls, drawing, everywhere, family, shifty

ROOT = Path(__file__).parents[2]
CTX = Context(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1), "7", 1)
# So many that two processes have them in one order by chance once in 10**18 runs.
MANY = Idle(frozenset(f"tag {n}" for n in range(20)))


@pytest.fixture(scope="module")
def twin() -> Iterator[Twin]:
    addresses = (f"tests.purity.machines:{name}" for name in ("shifty", "drawing", "everywhere", "family"))
    with Twin(*addresses) as twin:
        yield twin


@pytest.mark.parametrize("deed", ["by_set", "by_hash", "refused_by_set"])
def test_what_hashes_decide_is_caught_by_the_second_process_only(deed: str, twin: Twin) -> None:
    def decide() -> None:
        try:
            advance(shifty, MANY, Go(deed))
        except Rejected:
            assert deed == "refused_by_set"

    with guarded(shifty):
        decide()
        decide()
    with pytest.raises(Impure) as caught, guarded(twin=twin):
        decide()

    assert caught.value.call == "decides otherwise elsewhere"
    assert caught.value.function.startswith("shift (")
    assert " here, " in caught.value.detail


def test_a_function_that_remembers_is_caught(twin: Twin) -> None:
    calls.clear()
    with pytest.raises(Impure, match="decides otherwise elsewhere"), guarded(twin=twin):
        advance(shifty, Idle(), Go("by_memory"))


@pytest.mark.parametrize("deed", ["by_order", "built_in"])
def test_what_depends_on_nothing_else_passes(deed: str, twin: Twin) -> None:
    expected = advance(shifty, MANY, Go(deed))

    with guarded(twin=twin):
        assert advance(shifty, MANY, Go(deed)) == expected


@pytest.mark.parametrize(
    "event",
    [
        ChildEnded("everywhere", "child", Left()),
        Failed(Spawn("everywhere", "child"), "taken", 0),
        Failed(Say("a"), "no", 3),
    ],
)
def test_what_the_engine_tells_is_told_there_too(event: object, twin: Twin) -> None:
    with guarded(twin=twin):
        assert advance(family, Idle(), Go()).actions == [Spawn(everywhere, "child")]
        assert advance(family, Gone(), event).state == Gone(repr(event))


def test_a_refusal_is_a_decision_and_a_bug_is_its_own(twin: Twin) -> None:
    with guarded(twin=twin):
        with pytest.raises(Rejected, match="tag 0 tag 1 tag 10"):
            advance(shifty, MANY, Go("refused_by_order"))
        with pytest.raises(ZeroDivisionError):
            advance(shifty, MANY, Go("a_bug"))


def test_draws_go_on_from_a_transition_to_enter(twin: Twin) -> None:
    """What `enter` draws comes after the draws of the transition, there as well as here."""
    expected = replay(drawing, Idle(), [Go()], CTX)
    drawn = Context(CTX.now, CTX.id, CTX.key, CTX.seq)
    drawn.random.random()

    with guarded(twin=twin):
        assert replay(drawing, Idle(), [Go()], CTX) == expected
        assert replay(drawing, Idle(), [Go()], drawn) == expected
    assert len({str(action) for action in expected.actions}) == 2


def test_every_function_of_a_machine_is_called_there(twin: Twin) -> None:
    """An edge, a fallback, `enter`, a timeout's two functions, `route` and `restore`."""
    with guarded(twin=twin):
        begin(everywhere, Gone())
        advance(everywhere, Idle(), Go())
        advance(everywhere, Gone(), Go())
        advance(everywhere, Gone(), Timeout("Gone"))
        assert everywhere.routed(Say()).queue is None
        assert everywhere.state_timeout(Gone()) is not None
        assert everywhere.restored(Gone()) == [Say()]
        assert everywhere.violated(Gone()) is None


def test_it_is_one_process_with_other_hashes(twin: Twin) -> None:
    process = twin._process
    assert process is not None
    with guarded(twin=twin):
        for _ in range(3):
            advance(shifty, MANY, Go("by_order"))

    assert twin._process is process
    assert process.poll() is None


@pytest.mark.parametrize("seed", ["0", "1", "2", "random"])
def test_the_seeds_differ_whatever_the_first_one_is(seed: str) -> None:
    script = (
        "from fsm_core.purity import Twin, guarded, Impure\n"
        "from tests.purity.deeds import Go, Idle\n"
        "from tests.purity.machines import shifty\n"
        "from fsm_core import advance\n"
        "many = Idle(frozenset(f'tag {n}' for n in range(20)))\n"
        "with Twin('tests.purity.machines:shifty') as twin:\n"
        "    try:\n"
        "        with guarded(twin=twin):\n"
        "            advance(shifty, many, Go('by_set'))\n"
        "    except Impure as impure:\n"
        "        print(impure.call)\n"
    )
    environ = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True, timeout=60
    )

    assert (done.stdout.strip(), done.stderr) == ("decides otherwise elsewhere", "")


def test_it_ends_with_its_block() -> None:
    with Twin("tests.purity.machines:shifty") as twin:
        process = twin._process

    assert process is not None
    assert process.returncode == 0
    with pytest.raises(ConfigurationError, match="does not run"), guarded(twin=twin):
        advance(shifty, Idle(), Go("by_order"))


def test_a_second_process_that_died_is_told_of() -> None:
    with Twin("tests.purity.machines:shifty") as twin, guarded(twin=twin):
        assert twin._process is not None
        twin._process.kill()
        twin._process.wait()
        with pytest.raises(ConfigurationError, match="it ended"):
            advance(shifty, Idle(), Go("by_order"))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tests.purity.machines", "leads to no machine"),
        ("tests.purity.nowhere:shifty", "No module named"),
        ("tests.purity.machines:nothing_of_that_name", "has no attribute"),
        ("tests.purity.machines:Go", "is a type, no machine"),
    ],
)
def test_an_address_that_leads_nowhere_is_told_of(address: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Twin(address)


def test_a_module_that_loads_only_here_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text(
        "import os\n"
        "if os.environ['WHERE'] != 'here': raise RuntimeError('not here')\n"
        "from tests.purity.machines import shifty\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("WHERE", "here")
    twin = Twin("only_here:shifty")
    monkeypatch.setenv("WHERE", "there")
    with pytest.raises(ConfigurationError, match="RuntimeError: not here"):
        twin.__enter__()

    assert twin._process is None


def test_what_a_module_prints_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chatty.py").write_text("print('hello')\nfrom tests.purity.machines import shifty\n")
    monkeypatch.syspath_prepend(tmp_path)
    with Twin("chatty:shifty") as twin, guarded(twin=twin):
        assert advance(shifty, Idle(), Go("by_order")).actions == []


def test_threads_take_turns_at_it(twin: Twin) -> None:
    failed: list[Exception] = []

    def decide(n: int) -> None:
        state = Idle(frozenset(f"{n} {m}" for m in range(20)))
        try:
            for _ in range(20):
                advance(shifty, state, Go("by_order"))
        except Exception as error:  # noqa: BLE001 - of a thread
            failed.append(error)

    with guarded(twin=twin):
        threads = [threading.Thread(target=decide, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert failed == []


def test_what_is_given_comes_back_as_it_was() -> None:
    args = (MANY, Timeout("Gone"))
    assert tuple(back(everywhere, given(everywhere, "edges", args))) == args
    assert told((Gone("x"), [Say("y")])) == [["Gone", '{"to":"x"}'], [["Say", '{"text":"y"}']]]
