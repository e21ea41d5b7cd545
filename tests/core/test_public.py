"""What the package promises to export."""

from uuid import UUID

import pytest

import fsm_core
from fsm_core.errors import InvalidKey
from fsm_core.types import key_text


def test_the_public_names_are_these() -> None:
    """A name that is added or removed is a decision: this list is where it is made."""
    assert fsm_core.__all__ == [
        "ActionId", "ActionRecord", "ActionStatus", "After", "At", "Attempt", "Cancel", "CancelChildren", "Change", "ChildEnded", "Context", "Decision", "Effects",
        "Failed", "FsmError",
        "HistoryEntry", "InDoubt", "Join", "Key", "Machine", "MachineStatus", "NotDone", "Permanent", "Rejected", "Retry", "Route", "Send",
        "Snapshot", "Spawn", "Timeout", "To", "UnhandledEvent", "Untracked", "advance", "begin", "replay",
    ]  # fmt: skip
    assert all(hasattr(fsm_core, name) for name in fsm_core.__all__)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("front", "front"),
        (7, "7"),
        (-7, "-7"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ("order:42/ü 😀", "order:42/ü 😀"),
        ("x" * 255, "x" * 255),
    ],
)
def test_a_key_is_kept_as_text(key: fsm_core.Key, text: str) -> None:
    """Strings, integers and UUIDs name machines."""
    assert key_text(key) == text


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x" * 256,
        "a\nb",
        "a\0b",
        "\ud800",
        True,
        None,
        1.5,
        b"front",
        ("a",),
        10**300,
        pytest.param(10**5_000, id="huge"),
    ],
)
def test_what_is_no_key_is_refused(key: object) -> None:
    """Other types, empty, too long or unprintable: InvalidKey keeps what was given."""
    with pytest.raises(InvalidKey) as caught:
        key_text(key)  # type: ignore[arg-type]

    assert caught.value.key is key
