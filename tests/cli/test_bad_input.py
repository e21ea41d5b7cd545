"""A wrong call is one clear line and exit status 2, and changes nothing; a server that is away is named, status 1."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine

from examples.door import Closed, door
from fsm_core.postgres import PostgresStore
from tests.cli.support import Fsm, Refuses, fail
from workers.cli.main import main

ROOT = Path(__file__).parents[2]
NOBODY = "01890000-0000-7000-8000-000000000000"

WRONG = [
    # Typer's own
    (("bogus",), "No such command 'bogus'"),
    (("--bogus",), "No such option: --bogus"),
    (("machines", "--bogus"), "No such option: --bogus"),
    (("machines", "--limit", "x"), "--limit"),
    (("machines", "--limit", "0"), "--limit"),
    (("machines", "--status", "asleep"), "'unborn', 'live', 'done', 'failed', 'cancelled'"),
    (("actions", "--status", "asleep"), "'blocked', 'pending'"),
    (("show",), "NAME/KEY"),
    (("show", "door/front", "more"), "unexpected extra argument"),
    (("send", "door/front", "Close", "--expected-seq", "-1"), "--expected-seq"),
    (("relay", "now"), "unexpected extra argument"),
    # Addresses
    (("show", "door"), "'door' is no machine; it is addressed as NAME/KEY"),
    (("show", "/front"), "NAME/KEY"),
    (("show", "door/"), "NAME/KEY"),
    (("show", f"door/{'x' * 256}"), "1 to 255 characters"),
    (("show", "door/a\nb"), "printable"),
    (("show", "door/\udcff"), "not UTF-8"),
    (("machines", "--machine", "\udcff"), "not UTF-8"),
    (("history", "door"), "NAME/KEY"),
    (("send", "door", "Close"), "NAME/KEY"),
    (("cancel", "door"), "no action id"),
    (("retry", "door/front"), "no action id"),
    (("cancel", f"{NOBODY}.0"), "no action id"),
    (("cancel", f"{NOBODY}.0.x"), "no action id"),
    (("cancel", f"{NOBODY}.99999999999.0"), "no action id"),
    (("cancel", f"{NOBODY}.-1.0"), "no action id"),
    (("cancel", f"{NOBODY}.+1.0"), "no action id"),
    # What is not there
    (("show", "door/nobody"), "there is no machine door/nobody"),
    (("history", "door/nobody"), "there is no machine door/nobody"),
    (("send", "door/nobody", "Close"), "there is no machine door/nobody"),
    (("cancel", "door/nobody"), "there is no machine door/nobody"),
    (("send", "aging/nobody", "Ping"), "there is no machine aging/nobody"),
    (("cancel", f"{NOBODY}.0.0"), f"there is no action {NOBODY}.0.0"),
    (("retry", f"{NOBODY}.0.0"), f"there is no action {NOBODY}.0.0"),
    (
        ("send", "window/front", "Close"),
        "no machine 'window' is registered here (registered: aging, aging v2, door",
    ),
    (("start", "window/front"), "no machine 'window'"),
    (("start", ""), "a machine has a name"),
    (("start", "turnstile/x"), "no initial"),
    # Events, states and their JSON
    (
        ("send", "door/front", "Explode"),
        "Explode is no event of machine 'door' (declared: Open, Close, Lock, Unlock)",
    ),
    (("start", "door/new", "Ajar"), "Ajar is no state of machine 'door'"),
    (("start", "door/new", "Locked"), "missing required field `code`"),
    (("start", "door/new", "Locked", '{"code": 1, "colour": 2}'), "has no field colour"),
    (("send", "door/front", "Lock"), "missing required field `code`"),
    (("send", "door/front", "Lock", "{"), "is not JSON"),
    (("send", "door/front", "Close", ""), "is not JSON"),
    (("send", "door/front", "Lock", "[1]"), "must be a JSON object"),
    (("send", "door/front", "Lock", '"x"'), "must be a JSON object"),
    (("send", "door/front", "Lock", '{"code": "12"}'), "Expected `int`, got `str`"),
    (("send", "door/front", "Lock", '{"code": 1, "code": 2}'), "twice"),
    (("send", "door/front", "Lock", '{"code": 1, "colour": 2}'), "has no field colour"),
    (("send", "door/front", "Lock", '{"code": NaN}'), "NaN"),
    (("send", "door/front", "Lock", '{"code": 1e400}'), "inf"),
    (("send", "door/front", "Lock", '{"code": "\\u0000"}'), "NUL"),
    (("send", "door/front", "Lock", '{"code": "\\ud800"}'), "surrogate"),
    (("send", "door/front", "Lock", '{"code": ' + "[" * 5000 + "]" * 5000 + "}"), "nested deeper"),
    (("send", "door/front", "Lock", '{"code": "' + "x" * 70_000 + '"}'), "the limit is 65536"),
    # What the machine refuses
    (("send", "turnstile/one", "Push"), "no edge for Push in state Counting"),
    (("send", "turnstile/one", "Coin", '{"cents": 1}'), "too small"),
    (("send", "door/front", "Close", "--expected-seq", "5"), "expected seq 5, the machine is at 0"),
    (("send", "door/front", "Close", "--dedup-key", ""), "dedup key"),
    (("send", "door/gone", "Close"), "machine door/gone has ended: cancelled"),
    (("cancel", "door/gone"), "machine door/gone has ended: cancelled"),
    # Options that do not go together
    (("send",), "which event"),
    (("send", "door/front"), "which event"),
    (("send", "door/front", "Close", "--file", "-"), "with --file"),
    (("send", "door/front", "--file", "-", "--dedup-key", "a"), "with --file"),
    (("send", "--file", "/no/such/file"), "'/no/such/file' cannot be read: No such file or directory"),
    (("send", "--file", "/"), "'/' cannot be read: Is a directory"),
    (("retry",), "which actions?"),
    (("retry", "--machine", "door"), "which actions?"),
    (("retry", f"{NOBODY}.0.0", "--failed"), "not both"),
    (("actions", "--failed", "--status", "pending"), "do not go together"),
    (("migrate", "down", "nonsense"), "nonsense"),
    (("migrate", "down"), "needs a revision"),
    (("migrate", "status", "base"), "takes no revision"),
    (("migrate", "sideways"), "Invalid value for '[up|down|status]': 'sideways' is not one of"),
]


@pytest.fixture
def doors(fsm: Fsm) -> None:
    fsm("start", "door/front")
    fsm("start", "door/gone")
    fsm("cancel", "door/gone")
    fsm("start", "turnstile/one", "Counting")


@pytest.mark.parametrize(
    ("words", "said"),
    WRONG,
    ids=[" ".join(words)[:60].encode("ascii", "replace").decode() for words, _ in WRONG],
)
def test_a_wrong_call_is_one_line_and_changes_nothing(
    doors: None, refuses: Refuses, words: tuple[str, ...], said: str
) -> None:
    assert said in refuses(*words)


LINES = [
    ("nonsense", "is not JSON"),
    ("[]", "must be a JSON object"),
    ("{}", "'event' is missing"),
    ('{"event": 3}', "'event' must be text"),
    ('{"event": "Close", "colour": "red"}', "there is no field colour; a line has machine, key, event, payload, dedup_key"),
    ('{"event": "Close", "event": "Open"}', "twice"),
    ('{"event": "Explode"}', "Explode is no event"),
    ('{"event": "Lock", "payload": {"code": "x"}}', "Expected `int`"),
    ('{"event": "Lock", "payload": {"code": 1, "to": 2}}', "has no field to"),
    ('{"event": "Lock", "payload": [1]}', "must be a JSON object"),
    ('{"event": "Lock", "payload": {"code": 1e400}}', "inf"),
    ('{"event": "Close", "payload": false}', "must be a JSON object"),
    ('{"event": "Close", "dedup_key": 3}', "'dedup_key' must be text"),
    ('{"event": "Close", "dedup_key": ""}', "'dedup_key' must be text"),
    ('{"event": "Close", "key": "back"}', "it is for door/back, but the command line says door/front"),
    ('{"event": "Close", "machine": "window"}', "it is for window/front"),
    ('{"event": "Close", "key": true}', "'key' must be text"),
    ("[" * 100_000, "nested deeper"),
    ("x" * 140_000, "the limit is"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "said"), LINES, ids=[line[:50] for line, _ in LINES])
def test_a_bad_line_is_named_and_stops(
    doors: None, fsm: Fsm, store: PostgresStore, line: str, said: str
) -> None:
    good = '{"event": "Close"}'

    answer = fsm("send", "door/front", "--file", "-", stdin=f"{good}\n\n{line}\n{good}\n")

    assert (answer.status, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith("fsm: line 3 (events applied before it: 1): ")
    assert said in answer.err
    now = store.get(door, "front")
    assert (now.seq, now.state) == (1, Closed())


def test_a_bad_first_line_changes_nothing(doors: None, refuses: Refuses) -> None:
    lines = (
        (b'{"event": "\xff"}', "not UTF-8"),
        (b'{"key": "front", "event": "Close"}', "'machine' is missing"),
        (b'{"machine": "door", "event": "Close"}', "'key' is missing"),
        (b'{"machine": "do/or", "key": "front", "event": "Close"}', "no machine 'do' is registered"),
        (b'{"machine": "door", "key": "nobody", "event": "Close"}', "there is no machine door/nobody"),
        (b'{"machine": "door", "key": "a\\nb", "event": "Close"}', "printable"),
    )
    for line, said in lines:
        assert said in refuses("send", "--file", "-", stdin=line)


def test_a_wrong_status_changes_nothing(doors: None, fsm: Fsm, refuses: Refuses) -> None:
    (pending,) = (a["id"] for a in fsm("actions", "--key", "front", "--json").json)
    (cancelled,) = (a["id"] for a in fsm("actions", "--status", "cancelled", "--json").json)

    assert f"action {pending} is" in refuses("retry", pending)
    assert f"action {cancelled} is cancelled" in refuses("cancel", cancelled)


def test_one_bad_id_puts_none_back(doors: None, fsm: Fsm, refuses: Refuses, engine: Engine) -> None:
    failed = fail(engine, "front", 0)

    assert "there is no action" in refuses("retry", failed, f"{NOBODY}.0.0")


def test_a_dedup_key_is_not_used_for_another_event(doors: None, fsm: Fsm, refuses: Refuses) -> None:
    fsm("send", "door/front", "Close", "--dedup-key", "a")

    assert "dedup key 'a'" in refuses("send", "door/front", "Open", "--dedup-key", "a")


SETTINGS = [
    ({"DATABASE_URL": ""}, ("machines",), "DATABASE_URL is not set"),
    ({"DATABASE_URL": ""}, ("relay",), "DATABASE_URL is not set"),
    ({"DATABASE_URL": ""}, ("worker",), "DATABASE_URL is not set"),
    ({"DATABASE_URL": ""}, ("migrate",), "DATABASE_URL is not set"),
    ({"DATABASE_URL": "nonsense"}, ("machines",), "DATABASE_URL is no URL"),
    ({"DATABASE_URL": "postgresql://u:secret@h:port/x"}, ("machines",), "DATABASE_URL is no URL"),
    ({"DATABASE_URL": "mysql://u:secret@h/x"}, ("machines",), "only PostgreSQL"),
    ({"FSM_LEASE": "soon"}, ("machines",), "FSM_LEASE"),
    ({"FSM_MACHINES": ""}, ("start", "door/new"), "no machines are listed; set FSM_MACHINES"),
    ({"FSM_MACHINES": ""}, ("dev",), "no machines are listed"),
    ({"FSM_MACHINES": "door"}, ("start", "door/new"), "'door' is not module:name"),
    ({"FSM_MACHINES": "no.such:door"}, ("start", "door/new"), "no module 'no'"),
    ({"FSM_MACHINES": "examples.door:window"}, ("send", "door/front", "Close"), "window"),
    ({"FSM_MACHINES": "tests.cli.machines:not_a_machine"}, ("worker",), "is a int, not a Machine"),
]


@pytest.mark.usefixtures("doors")
@pytest.mark.parametrize(("environ", "words", "said"), SETTINGS)
def test_a_wrong_setting_is_one_line(
    refuses: Refuses,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    words: tuple[str, ...],
    said: str,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    line = refuses(*words)

    assert said in line
    assert "secret" not in line


@pytest.mark.parametrize(
    "words",
    [
        ("machines",),
        ("show", "door/front"),
        ("start", "door/front"),
        ("send", "door/front", "Close"),
        ("retry", "--failed"),
        ("migrate",),
        ("migrate", "status", "--json"),
    ],
)
@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://me:s3cret@127.0.0.1:1/app", "postgresql://me:***@127.0.0.1:1/app"),
        ("postgresql:///app?host=127.0.0.1&port=1&user=me&password=s3cret", "port=1"),
    ],
)
def test_a_database_that_is_away_is_named_without_its_password(
    fsm: Fsm, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], url: str, where: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)

    status, out, err = fsm(*words)

    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "the database does not answer" in err
    assert where in err
    assert "s3cret" not in err


def test_a_database_that_goes_away_in_a_file_is_told_with_the_line(
    fsm: Fsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:s3cret@127.0.0.1:1/app")

    answer = fsm("send", "door/front", "--file", "-", stdin='{"event": "Close"}')

    assert answer.status == 1
    assert answer.err.startswith(
        "fsm: line 1 (events applied before it: 0): advance door/front: the database"
    )


def test_nothing_but_help_is_printed_without_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: fsm")
    assert err == ""


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers.cli.main", *words],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_verb_is_told_in_one_whole_line(fsm: Fsm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of verbs has the first sentence of each; what is too long for a terminal of 80 columns ends in dots."""
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = fsm("--help")

    assert "prune" in out
    assert "..." not in out.partition("Commands:")[2]


def test_help_needs_neither_sqlalchemy_nor_celery() -> None:
    script = (
        "import sys; from workers.cli.main import main; main(['send', '--help']);"
        "heavy = {'celery', 'sqlalchemy', 'psycopg', 'alembic', 'rich', 'kombu', 'redis'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_answers_as_main_does(database_url: str) -> None:
    wrong = run("show", "door", DATABASE_URL=database_url)
    right = run("machines", "--json", DATABASE_URL=database_url)

    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert (right.returncode, json.loads(right.stdout), right.stderr) == (0, [], "")


def test_a_locale_that_lacks_a_letter_is_no_error(fsm: Fsm, database_url: str) -> None:
    fsm("start", "door/Tür")

    done = run("machines", DATABASE_URL=database_url, PYTHONIOENCODING="ascii")

    assert done.returncode == 0
    assert r"door/T\xfcr" in done.stdout


def test_a_reader_that_has_enough_is_no_traceback(fsm: Fsm, database_url: str) -> None:
    for number in range(20):
        fsm("start", f"door/{number}")

    done = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m workers.cli.main history door/1 | true"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
