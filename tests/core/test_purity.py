"""Deciding runs nothing, and loads nothing that could."""

import json
import subprocess
import sys
from typing import Never

import pytest

from examples.door import SEVEN, CallThePolice, Locked, NotifyIRC, Opened, Unlock, door
from fsm_core import Effects, advance, begin, replay


def test_deciding_calls_no_effect_and_no_probe_and_enters_no_resources() -> None:
    """Effects that would explode are registered, and stay untouched while the machine decides."""

    def explode(*_: object) -> Never:
        raise AssertionError("an effect ran")

    effects = Effects(door, resources=explode)

    @effects.act
    def notify(action: NotifyIRC) -> None:
        explode()

    @effects.act
    def call(action: CallThePolice) -> None:
        explode()

    @effects.probe
    def called(action: CallThePolice) -> None:
        explode()

    assert effects.missing() == ()
    begin(door, Opened())
    assert len(replay(door, Opened(), SEVEN).actions) == 7
    assert advance(door, Locked(1, attempts=1), Unlock(2)).actions[0] == CallThePolice()
    with pytest.raises(AssertionError, match="an effect ran"):
        notify(NotifyIRC("now"))


def test_the_core_loads_no_database_and_no_broker() -> None:
    """`import fsm_core` and a decision are free of drivers, of Celery and of pydantic."""
    script = (
        "import json, sys, fsm_core, examples.door as d\n"
        "assert fsm_core.replay(d.door, d.Opened(), d.SEVEN)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )

    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    loaded = set(json.loads(out))
    assert "fsm_core" in loaded
    assert not loaded & {
        "sqlalchemy", "psycopg", "alembic", "celery", "kombu", "redis", "billiard", "tenacity", "pydantic", "typer", "asyncio",
    }  # fmt: skip
