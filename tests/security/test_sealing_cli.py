"""The command line with keys, without them, and with wrong ones."""

import io
import json
import sys
from base64 import b64encode
from collections.abc import Callable
from typing import NamedTuple

import pytest
from sqlalchemy import Engine

from examples.door import Closed, Lock, Unlock, door
from fsm_core.postgres import Cipher, PostgresStore
from workers.cli.main import main

KEY, OTHER = bytes(range(32)), bytes(32)
HIDDEN = 'no key "2026-11" here'


class Answer(NamedTuple):
    status: int
    out: str
    err: str


Fsm = Callable[..., Answer]


@pytest.fixture
def fsm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, database_url: str, engine: Engine
) -> Fsm:
    """Runs `fsm` with these keys, on a door that was written with the key 2026-11."""
    store = PostgresStore(engine, cipher=Cipher({"2026-11": KEY}))
    store.start(door, "front", Closed())
    for event in (Lock(4711), Unlock(1)):
        store.advance(door, "front", event)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("FSM_MACHINES", "examples.door:door")

    def run(*arguments: str, **keys: bytes) -> Answer:
        given = ",".join(f"{name.replace('_', '-')}:{b64encode(key).decode()}" for name, key in keys.items())
        monkeypatch.setenv("FSM_PAYLOAD_KEYS", given)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        capsys.readouterr()
        return Answer(main(arguments), *capsys.readouterr())

    return run


def with_key(fsm: Fsm, *arguments: str) -> Answer:
    return fsm(*arguments, **{"2026_11": KEY})


LOOKS = [
    ("show", "door/front"),
    ("show", "door/front", "--at", "0"),
    ("history", "door/front"),
    ("actions",),
    ("machines",),
    ("explain", "door/front"),
    ("fsck",),
    ("upcast", "door"),
    ("diff", "door/front", "0", "1"),
]


@pytest.mark.parametrize("verb", LOOKS, ids=" ".join)
def test_with_the_key_every_verb_is_as_ever(fsm: Fsm, verb: tuple[str, ...]) -> None:
    answer = with_key(fsm, *verb, "--json")

    stuck = verb[0] == "explain"  # nobody is there to run anything: that is what it says
    assert (answer.status, answer.err) == (int(stuck), "")
    assert "sealed" not in answer.out


def test_what_is_shown_with_the_key_is_what_was_written(fsm: Fsm) -> None:
    shown = json.loads(with_key(fsm, "show", "door/front", "--json").out)
    entries = json.loads(with_key(fsm, "history", "door/front", "--json").out)

    assert shown["state"] == {"code": 4711, "attempts": 2}
    assert "4711" in str(entries)


@pytest.mark.parametrize("keys", [{}, {"other": OTHER}], ids=["no keys", "another"])
@pytest.mark.parametrize(
    "verb", [("show", "door/front"), ("history", "door/front"), ("actions",)], ids=" ".join
)
def test_without_the_key_a_look_says_why(fsm: Fsm, verb: tuple[str, ...], keys: dict[str, bytes]) -> None:
    answer = fsm(*verb, "--json", **keys)

    assert answer.status == 0
    assert json.dumps(HIDDEN) in answer.out
    assert "4711" not in answer.out


@pytest.mark.parametrize(
    ("verb", "status"),
    [
        (("send", "door/front", "Unlock", '{"code": 4711}'), 2),
        (("show", "door/front", "--at", "1"), 1),
        (("diff", "door/front", "0", "1"), 1),
        (("restore", "door/front"), 2),
    ],
    ids=lambda given: given[0] if isinstance(given, tuple) else str(given),
)
def test_without_the_key_nothing_is_done_and_one_line_says_so(
    fsm: Fsm, verb: tuple[str, ...], status: int
) -> None:
    answer = fsm(*verb)

    assert (answer.status, answer.out) == (status, "")
    assert HIDDEN in answer.err
    assert answer.err.count("\n") == 1
    assert json.loads(with_key(fsm, "show", "door/front", "--json").out)["seq"] == 2


def test_a_wrong_key_is_told_from_a_missing_one(fsm: Fsm) -> None:
    answer = fsm("send", "door/front", "Unlock", '{"code": 4711}', **{"2026_11": OTHER})

    assert 'key "2026-11" does not open it' in answer.err


def test_keys_that_are_none_are_one_line_and_exit_2(fsm: Fsm, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = fsm("show", "door/front", short=b"hunter2")

    assert (answer.status, answer.out) == (2, "")
    assert answer.err == "fsm: FSM_PAYLOAD_KEYS: payload key 'short' has 7 bytes, not 32\n"


def test_a_view_of_what_sql_cannot_read_is_refused(fsm: Fsm) -> None:
    for extra in ((), ("--apply",)):
        answer = with_key(fsm, "view", "door", *extra)
        assert (answer.status, answer.out) == (2, "")
        assert "SQL cannot read them" in answer.err
    assert "there is no view" in with_key(fsm, "view", "door", "--drop").err
