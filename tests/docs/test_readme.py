"""The README and the documents beside it say what is: their code runs, their links lead somewhere, their commands exist."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
import typer.main
from sqlalchemy import text

import fsm_core

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(document: Path, language: str) -> list[str]:
    return [code for kind, code in _BLOCK.findall(document.read_text()) if kind == language]


def named_modules(document: Path) -> dict[str, str]:
    """The Python blocks by the path in their first line."""
    found = {}
    for code in blocks(document, "python"):
        first, _, _ = code.partition("\n")
        if path := re.fullmatch(r"# (\S+\.py)", first):
            found[path[1]] = code
    return found


def written(document: Path, folder: Path) -> list[Path]:
    """The blocks of a document as the files that they say they are."""
    paths = []
    for name, code in named_modules(document).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        paths.append(path)
    return paths


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The README's modules, importable as `shop`."""
    written(ROOT / "README.md", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name == "shop" or name.startswith("shop.")]:
        del sys.modules[name]


@pytest.fixture
def web(shop: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`shop/web.py` on a database of the test's own."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    module = importlib.import_module("shop.web")
    module.Base.metadata.create_all(module.engine)
    yield module
    module.engine.dispose()


class Payments:
    """Stands for the `httpx.Client` that the README's effect is given."""

    def __init__(self, status: int, body: dict[str, str] | None = None) -> None:
        self.status, self.body = status, body
        self.sent: list[dict[str, Any]] = []

    def post(self, path: str, **given: Any) -> Any:
        self.sent.append({"path": path, **given})
        return httpx.Response(
            self.status, json=self.body, request=httpx.Request("POST", "https://payments.example")
        )


def attempt(payments: Payments) -> Any:
    return SimpleNamespace(resources=payments, idempotency_key="key-1")


def test_every_python_block_of_the_readme_says_which_file_it_is() -> None:
    assert list(named_modules(ROOT / "README.md")) == [
        "shop/orders.py", "shop/effects.py", "tests/test_orders.py", "shop/web.py",
    ]  # fmt: skip
    assert len(blocks(ROOT / "README.md", "python")) == len(named_modules(ROOT / "README.md"))


@pytest.mark.parametrize("document", ["README.md", "docs/testing.md"])
def test_the_tests_in_the_documents_pass(shop: Path, document: str) -> None:
    namespace: dict[str, Any] = {}
    for name, code in named_modules(ROOT / document).items():
        if name.startswith("tests/"):
            exec(code, namespace)

    tests = [value for name, value in namespace.items() if name.startswith("test_")]
    for test in tests:
        test()

    assert len(tests) == 1


def test_the_order_refuses_and_is_told_of_a_failed_charge(shop: Path) -> None:
    orders = importlib.import_module("shop.orders")
    failed = fsm_core.Failed(orders.Charge("tok", 42), "card declined", 1)

    with pytest.raises(fsm_core.Rejected, match="nothing to pay"):
        fsm_core.advance(orders.orders, orders.New(0), orders.Pay("tok"))

    assert (orders.Declined("card declined"), []) == fsm_core.advance(
        orders.orders, orders.Charging(42), failed
    )


def test_the_effect_sends_its_idempotency_key_and_returns_the_event(shop: Path) -> None:
    module, orders = importlib.import_module("shop.effects"), importlib.import_module("shop.orders")
    payments = Payments(200, {"receipt": "r1"})

    assert orders.Charged("r1") == module.charge(orders.Charge("tok", 42), attempt(payments))
    assert payments.sent == [
        {"path": "/charges", "json": {"card": "tok", "amount": 42}, "headers": {"Idempotency-Key": "key-1"}}
    ]
    assert module.effects.missing() == ()


@pytest.mark.parametrize(("status", "error"), [(402, fsm_core.Permanent), (503, Exception)])
def test_the_effect_gives_up_on_a_declined_card_and_tries_again_on_an_outage(
    shop: Path, status: int, error: type[Exception]
) -> None:
    module, orders = importlib.import_module("shop.effects"), importlib.import_module("shop.orders")

    with pytest.raises(error) as raised:
        module.charge(orders.Charge("tok", 42), attempt(Payments(status)))

    policy = module.effects.effect("Charge").retry
    assert policy.gives_up(raised.value, 1) is (error is fsm_core.Permanent)
    assert policy.gives_up(raised.value, 8) is True


def test_the_web_request_commits_its_row_and_the_machine_together(web: Any) -> None:
    order_id = web.place(42)
    state = web.payment_webhook(order_id, "tok-4242", "webhook-81")

    with web.Session(web.engine) as session:
        assert session.get_one(web.Order, order_id).card_ending == "4242"
    now = web.store.get(web.orders, order_id)
    assert (state, now.seq, type(now.state).__name__) == ("Charging", 1, "Charging")
    actions = web.store.history(web.orders, order_id)[1].actions
    assert [(action.name, action.status) for action in actions] == [("Charge", "pending")]


def test_the_same_webhook_twice_changes_nothing(web: Any) -> None:
    order_id = web.place(42)
    answers = [web.payment_webhook(order_id, "tok-4242", "webhook-81") for _ in range(2)]

    assert answers == ["Charging", "Charging"]
    assert len(web.store.history(web.orders, order_id)) == 2


def test_a_refused_web_request_leaves_its_own_row_as_it_was(web: Any) -> None:
    order_id = web.place(0)

    with pytest.raises(fsm_core.Rejected):
        web.payment_webhook(order_id, "tok-4242", "webhook-81")

    with web.engine.connect() as connection:
        assert connection.execute(text("SELECT card_ending FROM orders")).scalar_one() is None
    assert web.store.get(web.orders, order_id).seq == 0


def test_the_right_use_replays_and_the_wrong_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(ROOT / "CONTRIBUTING.md", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    right, wrong = importlib.import_module("guide.right"), importlib.import_module("guide.wrong")
    ctx = fsm_core.Context(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1), "7", 1)

    def twice(machine: Any) -> list[Any]:
        return [fsm_core.replay(machine, right.Open(), [right.Close()], ctx).state for _ in range(2)]

    assert [right.Closed(ctx.now)] * 2 == twice(right.tickets)
    first, second = twice(wrong.tickets)
    assert first != second


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_the_code_of_the_documents_type_checks(document: str, tmp_path: Path) -> None:
    paths = written(ROOT / document, tmp_path)
    for folder in {path.parent for path in paths}:
        (folder / "__init__.py").touch()
    options = [
        "--strict",
        "--follow-imports=silent",
        "--no-error-summary",
        "--config-file=",
        "--cache-dir=cache",
    ]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *map(str, paths)],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.stdout + checked.stderr == ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    missing = [
        target
        for target in _LINK.findall(document.read_text())
        if not target.startswith(("http:", "https:", "#"))
        and not (document.parent / target.partition("#")[0]).exists()
    ]

    assert missing == []


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each `fsm ...` in the console blocks and in the code spans of the documents, with its words."""
    for document in DOCUMENTS:
        content = document.read_text()
        lines = [
            line.removeprefix("$ ") for block in blocks(document, "console") for line in block.splitlines()
        ]
        spans = re.findall(r"`(fsm [^`\n]+)`", _BLOCK.sub("", content))
        for words in [part.strip() for line in [*lines, *spans] for part in line.split(";")]:
            if words.startswith("fsm "):
                yield document.name, shlex.split(words, comments=True)


def test_every_fsm_command_in_the_documents_exists() -> None:
    from workers.cli.main import app

    verbs: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    wrong = []
    for document, (_, verb, *rest) in commands():
        if verb.startswith("-"):
            continue
        if verb not in verbs:
            wrong.append((document, verb))
            continue
        command = verbs[verb]
        if rest and rest[0] in getattr(command, "commands", ()):
            command = command.commands[rest[0]]
        options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        given = [] if verb == "worker" else [word for word in rest if word.startswith("--")]
        wrong += [(document, verb, word) for word in given if word not in options]

    assert wrong == []


def test_the_readme_names_every_verb() -> None:
    from workers.cli.main import app

    verbs = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    named = {words[1] for document, words in commands() if document == "README.md"}

    assert named == verbs


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for document in DOCUMENTS
        for target in re.findall(r"(?:^\$ |`)make ([a-z-]+)", document.read_text(), re.MULTILINE)
    }

    assert {"demo", "test", "check"} <= named <= targets


def test_the_documents_tell_only_what_concerns_their_readers() -> None:
    """No path of the machine that they stand on."""
    for document in DOCUMENTS:
        assert str(ROOT) not in document.read_text(), document


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 240
