"""SQL in names, keys and payloads stays text: for every verb of the store and of the command line."""

import contextlib
import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from psycopg import sql
from sqlalchemy import Engine

from fsm_core import ActionStatus
from fsm_core.errors import ConfigurationError, DatabaseError, InvalidPayload, NotFound, Refused, WaitTimeout
from fsm_core.postgres import PostgresStore
from fsm_core.types import ActionId
from tests.security.runs import STATEMENTS
from tests.security.voyage import Dock, Idle, Row, Rowing, Sail, Sailing, boat, voyage
from tests.store.test_schema import catalog
from workers.cli.main import main

HOSTILE = {
    "quotes": "'; DROP TABLE fsm.machines CASCADE; --",
    "double quotes": '"; DROP SCHEMA fsm CASCADE; --',
    "driver": "%s %(id)s %% %",
    "sqlalchemy": ":id :x ?",
    "template": "{s} {} {0.__class__} ${x}",
    "dollar": "$$; SELECT pg_sleep(0); $1 $$",
    "comment": "/* */ -- \\ \\' E'\\x'",
    "json": '{"a": null}\'::jsonb, "',
    "array": '{NULL,"x"},(1)',
    "emoji": "\N{PILE OF POO}\N{ZERO WIDTH JOINER}\u202e",
    "lines": "a\r\nb\tc\x1b[31m",
    "long": "x'" * 5_000,
    "nul": "a\0b",
}  # fmt: skip
IDS = [pytest.param(text, id=name) for name, text in HOSTILE.items()]


@pytest.fixture
def store(engine: Engine) -> PostgresStore:
    return PostgresStore(engine, machines=[voyage, boat])


@pytest.fixture(autouse=True)
def _schema_stays(database_url: str) -> Iterator[None]:
    before = catalog(database_url)
    yield
    assert catalog(database_url) == before


def verbs(store: PostgresStore, text: str) -> dict[str, Callable[[], object]]:
    """Every verb with `text` wherever it takes one."""
    action = ActionId.parse("00000000-0000-0000-0000-000000000000.0.0")
    return {
        "start": lambda: store.start(boat, text, Rowing()),
        "start with a lane": lambda: store.start(boat, "lane", Rowing(), partition_key=text),
        "advance": lambda: store.advance(voyage, "v", Sail(text), dedup_key=text),
        "advance nobody": lambda: store.advance(voyage, text, Sail(text)),
        "advance_many": lambda: store.advance_many(voyage, [(text, Sail(text)), ("v", Sail(text))]),
        "signal": lambda: store.signal(voyage, text, Dock(text), dedup_key=text),
        "get": lambda: store.get(voyage, text),
        "wait": lambda: store.wait(voyage, text, timedelta(0)),
        "preview": lambda: store.preview(voyage, text, Sail(text)),
        "history": lambda: store.history(text, text),
        "record": lambda: store.record(text, text),
        "explain": lambda: store.explain(text, text),
        "machines": lambda: store.machines(text),
        "actions": lambda: store.actions(machine=text, key=text, action=text, queue=text, status=ActionStatus.FAILED),
        "log": lambda: store.log(text, text),
        "logs": lambda: list(store.logs([text])),
        "count": lambda: store.count([text]),
        "cancel": lambda: store.cancel(text, text, text),
        "cancel one": lambda: store.cancel(boat, "cancelled", text),
        "cancel_action": lambda: store.cancel_action(action, text),
        "limit": lambda: store.limit(text, max_running=1),
        "remove_limit": lambda: store.remove_limit(text),
        "restore": lambda: store.restore(voyage, text),
    }  # fmt: skip


@pytest.mark.parametrize("text", IDS)
def test_every_verb_of_the_store_takes_it_as_text_or_refuses_it(store: PostgresStore, text: str) -> None:
    store.start(voyage, "v")
    store.start(boat, "cancelled", Rowing())
    # No error of the database; but where a verb only looks, it is the driver that refuses a NUL.
    expected = (
        Refused,
        NotFound,
        ConfigurationError,
        WaitTimeout,
        *([DatabaseError] if "\0" in text else []),
    )
    for call in verbs(store, text).values():
        with contextlib.suppress(*expected):
            call()
    store.start(voyage, "w")
    if "\0" in text:
        with pytest.raises(InvalidPayload):
            store.advance(voyage, "w", Sail(text))
    else:
        assert store.advance(voyage, "w", Sail(text)).state == Sailing(text)
    found = {record.key for record in store.machines()}
    assert found <= {"v", "w", "cancelled", "lane", text}


@pytest.mark.parametrize(
    "text", [HOSTILE["quotes"], HOSTILE["double quotes"] + HOSTILE["driver"] + HOSTILE["template"]]
)
def test_every_verb_of_the_command_takes_it_as_text_or_refuses_it(
    store: PostgresStore,
    text: str,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("FSM_MACHINES", "tests.security.voyage:effects tests.security.voyage:boat")
    store.start(voyage, "v")
    lines = [
        *(
            [verb, f"{name}/{key}"]
            for verb in ("show", "history", "explain", "cancel", "restore", "start")
            for name, key in (("voyage", text), (text, text))
        ),
        ["send", f"voyage/{text}", "Sail", text], ["send", "voyage/v", text, "{}"], ["signal", "voyage/v", "Dock", text],
        ["send", "voyage/v", "Sail", '{"secret": "x"}', "--dedup", text], ["diff", f"voyage/{text}", "0", "1"],
        ["machines", text], ["actions", "--machine", text], ["actions", "--action", text], ["actions", "--status", text],
        ["actions", "--queue", text], ["retry", text], ["retry", "--failed", "--machine", text], ["fsck", text],
        ["limits", "set", text, "--max-running", "1"], ["limits", "remove", text], ["prune", "--older-than", text],
        ["upcast", text], ["graph", text], ["check", text], ["view", text], ["wait", f"voyage/{text}", "--timeout", "1s"],
        ["migrate", "up", text], ["roles", "--prefix", text, "--login", text],
    ]  # fmt: skip

    for line in lines:
        assert main(["--" if part.startswith("-") and part == text else part for part in line]) in (
            0,
            1,
            2,
        ), line
        assert "Traceback" not in capfd.readouterr().err, line

    assert store.get(voyage, "v").state in (Idle(), Sailing("x"))
    store.advance(boat, store.start(boat, None, Rowing()).key, Row())


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_a_statement_knows_values_only_as_parameters(name: str) -> None:
    """And the schema only as an identifier."""
    odd = "a\"b'; DROP TABLE x; --"
    text = STATEMENTS[name].on(odd)

    assert re.sub(r"%\(\w+\)s", "", text).count("%") == 0
    quoted = sql.Identifier(odd).as_string(None)
    assert odd not in text.replace(quoted, "").replace(sql.Literal(odd).as_string(None), "")
    assert ("{s}" in STATEMENTS[name].text) == (quoted in text)
