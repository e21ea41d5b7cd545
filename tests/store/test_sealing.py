"""The cipher by itself, and what of the statements it seals: all that is JSON, unless it is said why not."""

import importlib
import pickle
import pkgutil
import re
import sys
from base64 import b64encode
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from fsm_core.errors import ConfigurationError, Sealed
from fsm_core.payload import SEALED, refuse_sealed, shown, why_sealed
from fsm_core.postgres import Cipher, statements
from fsm_core.postgres.sealing import OPENED_COLUMNS, PLAIN_PARAMETERS, SEALED_PARAMETERS, sealed
from fsm_core.postgres.statements import Statement
from workers.settings import Settings, read

NEW, OLD = bytes(range(32)), bytes(range(100, 132))
HERE, THERE = uuid4(), uuid4()
SECRET = '{"card":"4111 1111 1111 1111","note":"naïve ☃"}'


@pytest.fixture
def cipher() -> Cipher:
    return Cipher({"2026-11": NEW, "2025": OLD})


def test_what_is_sealed_opens_in_its_own_machine_only(cipher: Cipher) -> None:
    text = cipher.seal(SECRET, HERE)

    assert text.startswith('{"$sealed": "2026-11.')
    assert cipher.open(text, HERE) == SECRET
    assert why_sealed(cipher.open(text, THERE)) == (
        'key "2026-11" does not open it: it was changed, or is another machine\'s'
    )


def test_no_two_seals_are_alike(cipher: Cipher) -> None:
    assert len({cipher.seal("{}", HERE) for _ in range(100)}) == 100


def test_the_first_key_seals_and_every_key_opens(cipher: Cipher) -> None:
    before = Cipher({"2025": OLD}).seal(SECRET, HERE)
    after = cipher.seal(SECRET, HERE)

    assert cipher.open(before, HERE) == SECRET
    assert Cipher({"2025": OLD, "2026-11": NEW}).open(after, HERE) == SECRET
    assert why_sealed(Cipher({"2025": OLD}).open(after, HERE)) == 'no key "2026-11" here'


@pytest.mark.parametrize("place", range(0, 60, 7))
def test_a_changed_character_is_noticed(cipher: Cipher, place: int) -> None:
    text = cipher.seal(SECRET, HERE)
    at = text.index(".") + 1 + place
    changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]

    assert "does not open it" in (why_sealed(cipher.open(changed, HERE)) or "")


@pytest.mark.parametrize(
    "damaged",
    [f'{SEALED}"}}', f'{SEALED}2026-11"}}', f'{SEALED}2026-11."}}', f'{SEALED}2026-11.AAA"}}', SEALED],
)
def test_what_is_no_whole_value_stays_sealed(cipher: Cipher, damaged: str) -> None:
    assert why_sealed(cipher.open(damaged, HERE)) is not None


def test_what_could_not_be_opened_goes_back_as_it_came(cipher: Cipher) -> None:
    """A row that only passes through, a kept result for one, loses nothing."""
    sealed_text = cipher.seal(SECRET, HERE)
    other = Cipher({"2025": OLD})

    assert other.seal(other.open(sealed_text, HERE), HERE) == sealed_text
    assert cipher.seal(cipher.open(sealed_text, THERE), THERE) == sealed_text


def test_whoever_decodes_or_looks_is_told_why(cipher: Cipher) -> None:
    text = cipher.seal(SECRET, HERE)

    with pytest.raises(Sealed, match=r'^sealed: no key "2026-11" here \(at state Paid\)$') as refused:
        refuse_sealed(text, "state Paid")
    assert shown(text) == {"$sealed": 'no key "2026-11" here'}
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


def test_keys_are_shown_nowhere(cipher: Cipher) -> None:
    settings = Settings("postgresql://nowhere", cipher=cipher)

    for shown_text in (repr(cipher), str(cipher), repr(settings)):
        assert "Cipher(2026-11, 2025)" in shown_text
        assert "\\x01" not in shown_text


def entry(name: str, key: bytes) -> str:
    return f"{name}:{b64encode(key).decode()}"


def test_keys_come_from_the_environment_or_a_file(tmp_path: Path, cipher: Cipher) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{entry('2026-11', NEW)}\n{entry('2025', OLD)}\n")
    text = cipher.seal(SECRET, HERE)

    for given in (
        {"FSM_PAYLOAD_KEYS": f"{entry('2026-11', NEW)},{entry('2025', OLD)}"},
        {"FSM_PAYLOAD_KEYS_FILE": str(file)},
    ):
        settings = read({}, {"DATABASE_URL": "postgresql://nowhere", **given})
        assert settings.cipher is not None
        assert settings.cipher.open(text, HERE) == SECRET
    assert read({}, {"DATABASE_URL": "postgresql://nowhere"}).cipher is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"FSM_PAYLOAD_KEYS": "hunter2hunter2"}, "FSM_PAYLOAD_KEYS: payload key 1 is not id:base64"),
        (
            {"FSM_PAYLOAD_KEYS": f"{entry('a', NEW)},b:hunter2!"},
            "FSM_PAYLOAD_KEYS: payload key 2 is not base64",
        ),
        ({"FSM_PAYLOAD_KEYS": entry("a", b"hunter2")}, "payload key 'a' has 7 bytes, not 32"),
        ({"FSM_PAYLOAD_KEYS": entry("a.b", NEW)}, "payload key 1 is not id:base64 with an id of its own"),
        ({"FSM_PAYLOAD_KEYS": f"{b64encode(NEW).decode()}:a"}, "payload key 1 is not id:base64"),
        (
            {"FSM_PAYLOAD_KEYS": f"{entry('a', NEW)},{entry('a', OLD)}"},
            "payload key 2 is not id:base64 with an id of its own",
        ),
        ({"FSM_PAYLOAD_KEYS": ","}, "a cipher needs a payload key"),
        ({"FSM_PAYLOAD_KEYS_FILE": "nowhere/keys"}, "FSM_PAYLOAD_KEYS_FILE cannot be read"),
        ({"FSM_PAYLOAD_KEYS": entry("a", NEW), "FSM_PAYLOAD_KEYS_FILE": "keys"}, "do not go together"),
    ],
)
def test_a_wrong_key_is_named_and_never_shown(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)) as refused:
        read({}, {"DATABASE_URL": "postgresql://nowhere", **given})
    assert "hunter2" not in str(refused.value)
    assert b64encode(NEW).decode() not in str(refused.value)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'fsm-core\[encryption\]'"):
        Cipher({"a": NEW})


def all_statements() -> dict[str, Statement]:
    found = {}
    for module in pkgutil.iter_modules(statements.__path__, f"{statements.__name__}."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Statement):
                found[f"{module.name.rpartition('.')[2]}.{name}"] = value
    return found


STATEMENTS = all_statements()


def unnested(text: str) -> dict[str, str]:
    """The parameters that are columns of an unnest, with the columns' names."""
    found = {}
    for given, columns in re.findall(r"unnest\(((?:%\(\w+\)s::\w+\[\],?\s*)+)\)\s*AS \w+\(([^)]*)\)", text):
        names = re.findall(r"%\((\w+)\)s", given)
        found.update(zip(names, (column.strip() for column in columns.split(",")), strict=True))
    return found


def as_json(text: str) -> set[str]:
    """The parameters that become JSON: cast there, or as a column of an unnest that is."""
    columns = set(
        re.findall(r"\b(\w+)::jsonb", text)
    )  # of any unnest: "applied" is of a column of that name, too
    direct = set(re.findall(r"%\((\w+)\)s::jsonb", text))
    return direct | {name for name, column in unnested(text).items() if column in columns} - {"e_outcome"}


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_parameter_that_becomes_json_is_sealed_or_said_to_be_plain(name: str) -> None:
    assert as_json(STATEMENTS[name].text) <= SEALED_PARAMETERS | PLAIN_PARAMETERS


def test_what_is_sealed_is_json_bytes_or_words_wherever_it_stands() -> None:
    """A name that means something else in some statement, a filter for one, would be sealed there too."""
    words = {"e_reason", "f_note", "m_note", "digest", "d_digest"}
    for name, statement in STATEMENTS.items():
        used = set(re.findall(r"%\((\w+)\)s", statement.text))
        assert used & SEALED_PARAMETERS <= as_json(statement.text) | words, name
    used_anywhere = {p for s in STATEMENTS.values() for p in re.findall(r"%\((\w+)\)s", s.text)}
    assert used_anywhere >= SEALED_PARAMETERS | PLAIN_PARAMETERS


def test_no_statement_looks_into_a_payload() -> None:
    """But for a child's address, which is plain, and what a process says of itself."""
    looks = {
        (name, found)
        for name, statement in STATEMENTS.items()
        for found in re.findall(
            r"\b(?:\w+\.)?(state|payload|outcome|error|late)\s*(?:->|@>|\?|#>)", statement.text
        )
    }

    assert looks == {("family.CHILDREN", "payload")}


def test_what_is_selected_keeps_the_name_by_which_it_is_opened() -> None:
    for name, statement in STATEMENTS.items():
        for column, alias in re.findall(r"\b(\w+)::text AS (\w+)", statement.text):
            assert column not in OPENED_COLUMNS or alias == column, name


def test_each_value_of_a_column_is_sealed_for_its_own_machine(cipher: Cipher) -> None:
    """Where the rows say whose they are by machine, and where by the place of their unit."""
    by_unit = sealed(cipher, {"id": [HERE, THERE], "e_unit": [1, 0, 1], "e_payload": ["1", None, "3"]})
    by_machine = sealed(
        cipher, {"id": THERE, "f_machine": [HERE, THERE], "f_error": ["1", "2"], "f_seq": [0, 0]}
    )
    move = sealed(cipher, {"machine": [HERE], "m_note": ["1"], "idx": [0]})
    one = sealed(cipher, {"id": HERE, "payload": "1", "a_payload": ["2", "3"], "digest": b"4", "name": "n"})

    def opened(given: dict[str, object], name: str, *machines: UUID) -> list[str | None]:
        values = given[name] if isinstance(given[name], list) else [given[name]]
        assert isinstance(values, list)
        return [v and cipher.open(v, m) for v, m in zip(values, machines, strict=True)]

    assert opened(by_unit, "e_payload", THERE, HERE, THERE) == ["1", None, "3"]
    assert opened(by_machine, "f_error", HERE, THERE) == ["1", "2"]
    assert by_machine["f_seq"] == [0, 0]
    assert opened(move, "m_note", HERE) == ["1"]
    assert opened(one, "payload", HERE) == ["1"]
    assert opened(one, "a_payload", HERE, HERE) == ["2", "3"]
    assert isinstance(one["digest"], bytes)
    assert one["name"] == "n"
