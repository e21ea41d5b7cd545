"""What goes through the codec comes back as it was."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from math import copysign
from uuid import UUID

import msgspec
import pytest

from fsm_core import Failed, Machine
from fsm_core.codec import decode, decode_named, encode, field_names, read_input
from fsm_core.errors import DefinitionError, InvalidPayload, UnknownType
from fsm_core.registry import AnyMachine, Registry
from fsm_core.unions import Member, members
from tests.core.shapes import (
    Aliased,
    Colour,
    Everything,
    Holder,
    Level,
    Model,
    Open,
    Packed,
    Point,
    Renamed,
)

EVERYTHING = Everything(
    when=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2))),
    day=date(2026, 1, 2),
    span=timedelta(days=-3, microseconds=5),
    id=UUID(int=2**127 + 1),
    price=Decimal("19.9900"),
    colour=Colour.RED,
    level=Level.HIGH,
    raw=b"\x00\xff\n",
    tags=frozenset({"a", "ü", "😀"}),
    pair=(1, "one"),
    many=(Point(1, 0.1), Point(-2, 1e300)),
    maybe=None,
    by_number={1: "one", -2: "minus two"},
    kind="b",
    big=10**99,
    free={"a": [1, 2.5, None, True, {"b": "c"}]},
)

VALUES = [
    EVERYTHING,
    Point(),
    Packed("p", Point(3, 4.5), Decimal("0.10")),
    Renamed("Ada"),
    Model(name="m", when=datetime(2026, 1, 1, tzinfo=UTC), price=Decimal("1.10"), share=0.1),
    Aliased(firstName="Ada"),
    Holder(Model(name="inner", price=Decimal("2.20")), Packed("q", Point())),
    Open({"deep": [[[["er"]]]]}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    """Decoding what was encoded gives an equal value of the same class, and encoding that gives the same text."""
    text = encode(value, "value")
    back = decode(Member(type(value)), text, "value")

    assert type(back) is type(value)
    assert back == value
    assert encode(back, "value") == text


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_a_payload_is_a_json_object(value: object) -> None:
    """Every payload is readable from SQL by its fields' names, never a string of JSON."""
    tree = json.loads(encode(value, "value"))

    assert isinstance(tree, dict)
    assert sorted(tree) == sorted(field_names(type(value)))


def test_a_decimal_keeps_its_digits_and_a_time_its_instant() -> None:
    """Equality would not notice 1.10 becoming 1.1."""
    back = decode(Member(Everything), encode(EVERYTHING, "value"), "value")

    assert str(back.price) == "19.9900"
    assert back.when.utcoffset() == timedelta(hours=2)


def test_minus_zero_is_normalised_before_jsonb_does_it() -> None:
    """-0.0 is written as 0.0, wherever it stands, so that a row read back encodes to the same text."""
    text = encode(Open([-0.0, {"a": -0.0}]), "value")

    assert text == '{"value":[0.0,{"a":0.0}]}'
    assert copysign(1, decode(Member(Open), text, "value").value[0]) == 1


def test_failed_comes_back_with_its_action() -> None:
    """`Failed` carries action, error and attempts through the log and the inbox."""
    (member,) = members(Failed[Packed], "here")
    failed = Failed(Packed("p", Point(1, 2.0)), "ValueError: no", 8)

    assert decode(member, encode(failed, "event"), "event") == failed


def test_failed_comes_back_however_long_jsonb_writes_it() -> None:
    """A column has a space after each comma: what fitted when it was sent must be read when it is longer."""
    (member,) = members(Failed[Open], "here")
    failed = Failed(Open(list(range(9_000))), "no", 1)
    text = encode(failed, "event").replace(",", ", ").ljust(70_000)

    assert decode(member, text, "event") == failed


@pytest.mark.parametrize("text", ["[]", "{}", '{"action": 3}', '{"action": {}, "attempts": "x"}', "{"])
def test_what_is_no_failed_is_refused(text: str) -> None:
    """A damaged row gives InvalidPayload."""
    (member,) = members(Failed[Packed], "here")
    with pytest.raises(InvalidPayload):
        decode(member, text, "event")


def machine() -> AnyMachine:
    return Machine("m", states=Point, events=Packed | Aliased | Failed[Model], actions=Model)


def test_a_name_finds_its_class() -> None:
    """States, events and actions are looked up by the name in the row; an unknown one lists those that are known."""
    assert decode_named(machine(), "event", "Packed", '{"name": "a", "at": {}}') == Packed("a", Point())
    assert decode_named(machine(), "event", "Failed[Model]", '{"action": {"name": "a"}}') == Failed(
        Model(name="a")
    )
    with pytest.raises(
        UnknownType, match=r"Point is no event of machine 'm' \(declared: Packed, Aliased, Failed"
    ):
        decode_named(machine(), "event", "Point", "{}")


def test_input_from_outside_is_read_strictly() -> None:
    """The same value as inside, but no unknown and no repeated field, and nothing that only the engine makes."""
    assert read_input(machine(), "event", "Aliased", '{"firstName": "Ada"}') == Aliased(firstName="Ada")
    with pytest.raises(InvalidPayload, match="event Packed has no field extra, more"):
        read_input(machine(), "event", "Packed", '{"name": "a", "at": {}, "more": 1, "extra": 2}')
    with pytest.raises(InvalidPayload, match="a key stands there twice"):
        read_input(machine(), "event", "Packed", '{"name": "a", "at": {"x": 1, "x": 2}}')
    with pytest.raises(InvalidPayload, match="missing required field"):
        read_input(machine(), "event", "Packed", "{}")
    with pytest.raises(UnknownType, match=r"\(declared: Packed, Aliased\)"):
        read_input(machine(), "event", "Failed[Model]", '{"action": {"name": "a"}}')


def plain() -> type:
    class Plain:
        pass

    return Plain


def with_a_type_it_lacks() -> type:
    @dataclass
    class Lacking:
        x: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    return Lacking


@pytest.mark.parametrize("build", [plain, with_a_type_it_lacks, lambda: int])
def test_a_class_that_json_cannot_hold_is_found_when_the_machine_is_registered(
    build: Callable[[], type],
) -> None:
    """Not at the first event, hours later."""
    cls = build()
    with pytest.raises(DefinitionError, match=cls.__name__):
        Registry([Machine("m", states=cls, events=Point)])


def test_a_struct_is_named_by_its_encoded_fields() -> None:
    """Renamed fields are asked for by the name that stands in the JSON."""
    assert field_names(Renamed) == ("firstName",)
    assert msgspec.json.decode(encode(Renamed("Ada"), "value")) == {"firstName": "Ada"}


def test_a_set_has_one_text_in_every_process() -> None:
    """A dedup key compares payloads: a webhook that comes again to another process must find its own event."""
    script = (
        "from dataclasses import make_dataclass\n"
        "from fsm_core.codec import encode\n"
        "Tagged = make_dataclass('Tagged', [('tags', set[str])])\n"
        "print(encode(Tagged({str(n) for n in range(50)}), 'value'))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(texts) == 1
