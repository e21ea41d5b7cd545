"""`fsm wait` and `fsm prune`: waiting for an end, and deleting what ended long ago."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from fsm_core.delivery.retention import KEEP_ALL, Retention
from fsm_core.errors import ConfigurationError
from fsm_core.postgres import PostgresStore
from tests.cli.machines import Coin, Counting, Kick, turnstile
from tests.cli.support import Answer, Fsm, Refuses, everything
from tests.store.aging import grow_old
from tests.store.waits import waits_for
from tests.store.world import PostgresWorld, plain
from tests.waiting import eventually
from workers.settings import read

ROOT = Path(__file__).parents[2]


@pytest.fixture
def world(store: PostgresStore, database_url: str) -> PostgresWorld:
    return PostgresWorld(store, plain(database_url))


# wait


@pytest.fixture
def waited(fsm: Fsm, world: PostgresWorld) -> Callable[..., Answer]:
    """Runs `fsm wait` for turnstile/1, which ends by `end` while it waits."""

    def run(end: Callable[[], object], *options: str) -> Answer:
        found = world.store.start(turnstile, 1, Counting()).id

        def ends() -> None:
            eventually(lambda: waits_for(world, found), what="the command waits")
            end()

        thread = threading.Thread(target=ends)
        thread.start()
        answer = fsm("wait", "turnstile/1", *options)
        thread.join()
        return answer

    return run


def test_it_waits_for_the_end_and_prints_it_as_show_does(
    waited: Callable[..., Answer], fsm: Fsm, store: PostgresStore
) -> None:
    answer = waited(lambda: store.advance(turnstile, 1, Kick()), "--timeout", "1m")

    assert (answer.status, answer.err) == (0, "")
    assert answer.out == fsm("show", "turnstile/1").out
    assert "done" in answer.out


def test_its_document_is_that_of_the_machine(waited: Callable[..., Answer], store: PostgresStore) -> None:
    answer = waited(lambda: store.advance(turnstile, 1, Kick()), "--json")

    assert (answer.json["state_name"], answer.json["status"], answer.json["seq"]) == ("Broken", "done", 1)


def test_one_that_is_cancelled_has_not_ended_well(
    waited: Callable[..., Answer], store: PostgresStore
) -> None:
    answer = waited(lambda: store.cancel(turnstile, 1))

    assert (answer.status, answer.err) == (1, "")
    assert "cancelled" in answer.out


def test_one_that_does_not_end_in_time_is_one_line(fsm: Fsm, store: PostgresStore) -> None:
    store.start(turnstile, 1, Counting())

    assert fsm("wait", "turnstile/1", "--timeout", "0s") == (
        1, "", "fsm: machine turnstile/1 has not ended within 0 s\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [("wait", "turnstile"), ("wait", "turnstile/1", "--timeout", "soon"), ("wait", "turnstile/none"), ("wait", "none/1")],
)  # fmt: skip
def test_a_wrong_wait_is_refused(refuses: Refuses, arguments: tuple[str, ...]) -> None:
    assert refuses(*arguments)


def test_ctrl_c_ends_it_without_a_traceback(world: PostgresWorld, database_url: str) -> None:
    found = world.store.start(turnstile, 1, Counting()).id
    environ = {
        **os.environ, "DATABASE_URL": database_url, "FSM_MACHINES": "tests.cli.machines:turnstile", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    # Who runs the tests may ignore the signal, and a child would inherit that.
    script = "import signal, sys; signal.signal(2, signal.default_int_handler); import workers.cli.main as m; sys.exit(m.main())"
    command = [sys.executable, "-c", script, "wait", "turnstile/1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environ, cwd=ROOT, text=True, **pipes) as process:
        eventually(lambda: waits_for(world, found), timeout=30, what="the command waits")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    assert (process.returncode, out, err.strip()) == (130, "", "")


# prune


def ended(world: PostgresWorld, key: str, days: float) -> None:
    world.store.start(turnstile, key, Counting())
    world.store.advance(turnstile, key, Coin(50))
    world.store.advance(turnstile, key, Kick())
    grow_old(world, days)


def test_it_says_what_it_has_deleted(fsm: Fsm, world: PostgresWorld) -> None:
    ended(world, "a", 400)
    ended(world, "b", 40)

    would = fsm("prune", "--older-than", "30d", "--forget", "52w", "--dry-run")
    assert would == (0, "would be: 2 ended machines pruned, 1 machine forgotten\n", "")
    done = fsm("prune", "--older-than", "30d", "--forget", "52w")

    assert done == (0, "2 ended machines pruned, 1 machine forgotten; deleted: 5 events\n", "")
    assert [record.key for record in world.store.machines()] == ["b"]
    assert fsm("prune", "--older-than", "30d").out == "nothing\n"


def test_its_document_counts_everything(fsm: Fsm, world: PostgresWorld) -> None:
    ended(world, "a", 40)

    assert fsm("prune", "--older-than", "30d", "--live", "--json").json == {
        "machines": 1, "cut": 0, "forgotten": 0, "unborn": 0, "events": 2, "actions": 0, "attempts": 0, "held": 0,
        "dry_run": False,
    }  # fmt: skip


def test_it_keeps_to_the_settings(fsm: Fsm, world: PostgresWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command line says goes before them."""
    ended(world, "a", 40)
    monkeypatch.setenv("FSM_RETENTION", "30d")

    assert fsm("prune", "--older-than", "9w").out == "nothing\n"
    assert fsm("prune").out == "1 ended machine pruned; deleted: 2 events\n"


@pytest.mark.parametrize("arguments", [(), ("--older-than", "old"), ("--forget", "1"), ("--live",)])
def test_without_a_time_it_refuses(
    refuses: Refuses, world: PostgresWorld, engine: Engine, arguments: tuple[str, ...]
) -> None:
    ended(world, "a", 40)
    before = everything(engine)

    assert refuses("prune", *arguments)
    assert everything(engine) == before


# The settings


def settings(**environ: str) -> Retention:
    return read({}, {"DATABASE_URL": "postgresql:///app", **environ}).retention


def test_everything_is_kept_unless_somebody_says_otherwise() -> None:
    assert settings() == settings(FSM_RETENTION="") == KEEP_ALL


def test_the_environment_goes_before_celeryconfig() -> None:
    configured = {"fsm_retention": timedelta(days=1), "fsm_forget": "2w"}
    found = read(configured, {"DATABASE_URL": "postgresql:///app", "FSM_RETENTION": "12h"}).retention

    assert found == Retention(timedelta(hours=12), timedelta(weeks=2))


@pytest.mark.parametrize("given", ["30", "30 days", "0d", "-1d", "d"])
def test_a_wrong_time_names_its_variable(given: str) -> None:
    with pytest.raises(ConfigurationError, match="FSM_FORGET"):
        settings(FSM_FORGET=given)
