"""Payloads encrypted at rest: sealed on their way into a statement, opened on their way out of its rows. docs/encryption.md.

A sealed value is the JSON object `{"$sealed": "<key id>.<base64 of nonce and ciphertext>"}`; in a column of text that text, in one
of bytes its bytes. What cannot be opened stays as it is, and whoever decodes it raises `Sealed`: so one bad row makes no other
unreadable, and what only passes through is not lost.

AES-256-GCM under a key of the machine's own, derived from the cipher's by HMAC-SHA-256 over the machine's id: a value opens in the
rows of its machine only, and random nonces are enough for as many values as one machine can have, however many machines there
are. Sources: NIST SP 800-38D, 8.3 (how many random nonces a key may see), SP 800-108 (a key from a key).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeAlias

from fsm_core.errors import ConfigurationError
from fsm_core.payload import REFUSED, SEALED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

Row: TypeAlias = tuple[Any, ...]

KEY_BYTES = 32
_NONCE_BYTES = 12
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_VALUE = re.compile(
    rf'{re.escape(SEALED)}(?P<key>{_KEY_ID.pattern})(?P<mark>[.{REFUSED}])(?P<made>[A-Za-z0-9+/=]+)"}}'
)
_PURPOSE = b"fsm-core payload of machine "
_SEALED_BYTES = SEALED.encode()

SEALED_PARAMETERS = frozenset({
    "state", "payload", "digest",  # one machine's, or a column of several machines' by `id`
    "a_payload", "a_outcome", "n_payload", "n_outcome",  # actions
    "e_payload", "e_reason", "i_payload", "d_digest",  # events, held events, dedup keys
    "f_outcome", "f_error", "f_note", "m_outcome", "m_error", "m_note", "result",  # what came of actions
})  # fmt: skip
"""Parameters that carry what users wrote, or what an exception of theirs said, in every statement that has them."""

PLAIN_PARAMETERS = frozenset({
    "queues", "known", "claimed",  # a process about itself
    "p_payload", "p_error",  # a `Spawn`: the address of the child, and the sentence that it is taken
})  # fmt: skip
"""Parameters that are JSON, and are not sealed."""

OPENED_COLUMNS = frozenset({"state", "payload", "digest", "outcome", "error", "reason", "note"})
"""Columns of rows in which a sealed value may stand."""

_WHOSE = ("machine_id", "id")


class Cipher:
    """Keys by their ids. The first one seals, every one opens: a new key is put first, and the old ones stay.

    keys: each 32 random bytes, under an id of 1 to 40 letters, digits, "-" and "_". Raises ConfigurationError: other keys, none,
    or the package `cryptography` is not there.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        for name, key in keys.items():
            if not _KEY_ID.fullmatch(name):
                raise ConfigurationError(f"{name!r:.60} is no id of a payload key: letters, digits, - and _")
            if len(key) != KEY_BYTES:
                raise ConfigurationError(f"payload key {name!r} has {len(key)} bytes, not {KEY_BYTES}")
        if not keys:
            raise ConfigurationError("a cipher needs a payload key")
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "payload keys need the package cryptography: pip install 'fsm-core[encryption]'"
            ) from error
        self._keys = dict(keys)
        self._first = next(iter(self._keys))
        self._aead, self._refusal = AESGCM, InvalidTag

    @classmethod
    def from_text(cls, text: str) -> Cipher:
        """The cipher of `id:base64` entries, separated by commas or blanks. Raises ConfigurationError; it shows no key."""
        keys: dict[str, bytes] = {}
        for place, entry in enumerate(text.replace(",", " ").split(), 1):
            name, colon, encoded = entry.partition(":")
            # Nothing of an entry is shown: what is not where it belongs may be the key.
            if not colon or not _KEY_ID.fullmatch(name) or name in keys:
                raise ConfigurationError(
                    f"payload key {place} is not id:base64 with an id of its own (letters, digits, - and _)"
                )
            try:
                keys[name] = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                raise ConfigurationError(f"payload key {place} is not base64") from None
        return cls(keys)

    def __repr__(self) -> str:
        return f"Cipher({', '.join(self._keys)})"

    def seal(self, text: str, machine: UUID) -> str:
        """`text` sealed, as it stands in a row of `machine`. What is sealed already stays so."""
        before = _VALUE.fullmatch(text)
        if before is not None:
            return _value(before["key"], ".", before["made"])
        nonce = os.urandom(_NONCE_BYTES)
        made = nonce + self._of(self._first, machine).encrypt(nonce, text.encode(), None)
        return _value(self._first, ".", base64.b64encode(made).decode())

    def open(self, text: str, machine: UUID) -> str:
        """What was sealed as `text` in a row of `machine`; where that cannot be told, it stays as it is: `why_sealed`."""
        value = _VALUE.fullmatch(text)
        if value is None or value["key"] not in self._keys:
            return text
        try:
            made = base64.b64decode(value["made"], validate=True)
            nonce, secret = made[:_NONCE_BYTES], made[_NONCE_BYTES:]
            return str(self._of(value["key"], machine).decrypt(nonce, secret, None), "utf-8")
        except (self._refusal, ValueError):
            return _value(value["key"], REFUSED, value["made"])

    def _of(self, name: str, machine: UUID) -> Any:
        return self._aead(hmac.digest(self._keys[name], _PURPOSE + machine.bytes, "sha256"))


def sealed(cipher: Cipher, parameters: Mapping[str, object]) -> dict[str, object]:
    """The parameters of a statement with what is to be sealed sealed."""
    return {
        name: _sealed(cipher, value, _whose(name, parameters)) if name in SEALED_PARAMETERS else value
        for name, value in parameters.items()
    }


def opened(
    cipher: Cipher, rows: list[Row], columns: Sequence[bytes], parameters: Mapping[str, object]
) -> list[Row]:
    """The rows of a statement with what was sealed opened; each row's machine is in it, or the statement's parameter `id`."""
    names = [name.decode() for name in columns]
    places = [place for place, name in enumerate(names) if name in OPENED_COLUMNS]
    whose = next((names.index(name) for name in _WHOSE if name in names), None)

    def row_opened(row: Row) -> Row:
        found = [place for place in places if _is_sealed(row[place])]
        if not found:
            return row
        machine: Any = parameters["id"] if whose is None else row[whose]
        cells = list(row)
        for place in found:
            cells[place] = _opened(cipher, row[place], machine)
        return tuple(cells)

    return [row_opened(row) for row in rows] if places else rows


def _whose(name: str, parameters: Mapping[str, Any]) -> Any:
    """Whose the values of a parameter are: columns of a prefix say it by machine or by the place of their unit."""
    prefix = name.rpartition("_")[0]
    if f"{prefix}_machine" in parameters:
        return parameters[f"{prefix}_machine"]
    if f"{prefix}_unit" in parameters:
        return [parameters["id"][unit] for unit in parameters[f"{prefix}_unit"]]
    return parameters["id" if "id" in parameters else "machine"]


def _sealed(cipher: Cipher, value: Any, whose: Any) -> object:
    if isinstance(value, list):
        machines = whose if isinstance(whose, list) else repeat(whose, len(value))
        return [_sealed(cipher, each, machine) for each, machine in zip(value, machines, strict=True)]
    if isinstance(value, bytes):
        return cipher.seal(base64.b64encode(value).decode(), whose).encode()
    return None if value is None else cipher.seal(value, whose)


def _value(key: str, mark: str, made: str) -> str:
    return f'{SEALED}{key}{mark}{made}"}}'


def _is_sealed(cell: object) -> bool:
    if isinstance(cell, str):
        return cell.startswith(SEALED)
    return isinstance(cell, bytes) and cell.startswith(_SEALED_BYTES)


def _opened(cipher: Cipher, cell: Any, machine: UUID) -> object:
    if isinstance(cell, str):
        return cipher.open(cell, machine)
    text = cipher.open(cell.decode(errors="replace"), machine)
    return text.encode() if text.startswith(SEALED) else base64.b64decode(text)
