"""What JSON or jsonb cannot hold is refused by one typed error, before any database sees it."""

import json
import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fsm_core.codec import decode, encode, read_input
from fsm_core.errors import DefinitionError, InvalidPayload, PayloadTooLarge, Refused
from fsm_core.machine import Machine
from fsm_core.payload import Limits, dump, parse
from fsm_core.unions import Member
from tests.core.payloads import BOMBS, COLLIDING, EVENTS, PRIME, SENT, TEXTS, Hashed, target
from tests.core.shapes import Aliased, Listed, Model, Number, Open, Packed, Point, Root, Strict


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def around_itself() -> object:
    value: list[object] = []
    value.append(value)
    return value


class Word(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Open(float("nan")), r"nan is no JSON number \(at value.value\)"),
        (Open([1, float("inf")]), r"inf is no JSON number \(at value.value\[1\]\)"),
        (Open({"a": -1e309}), r"-inf is no JSON number \(at value.value.a\)"),
        (Point(0, float("inf")), "inf is no JSON number"),
        (Model(name="m", share=float("nan")), "nan is no JSON number"),
        (Open("a\0b"), r"NUL in a string \(at value.value\)"),
        (Open({"a\0": 1}), "NUL in a string"),
        (Packed("\0", Point()), "NUL in a string"),
        (Open("\ud800"), "a lone surrogate"),
        (Open({"\udfff": 1}), "a lone surrogate|no JSON form"),
        (Open(10**100), "an integer of more than 100 digits"),
        (Open(-(10**5000)), "an integer of more than 100 digits"),
        (Open(nested(32)), "nested too deep"),
        (Open(nested(100_000)), "no JSON form"),
        (Open(around_itself()), "no JSON form"),
        (Open([0] * 10_001), "too many values"),
        (Open(object()), "no JSON form is known for object"),
        (Open(Word("a")), "no JSON form is known for Word"),
        (Open({(1, 2): 3}), "no JSON form"),
        (Number("7"), r"does not fit Number: Expected `int`, got `str`"),
        (Number(1.5), "does not fit Number"),
        (Number(True), "does not fit Number: Expected `int`, got `bool`"),
        (Number(None), "does not fit Number"),
        (replace(Point(), y="high"), "does not fit Point"),
        (Packed(3, Point()), "does not fit Packed"),  # type: ignore[arg-type]
        (Packed("a", None), "does not fit Packed"),  # type: ignore[arg-type]
        (Model.model_construct(name=3), "has no JSON form"),
        (Listed("a"), "Listed is no JSON object but a list"),
        (Root([1]), "Root is no JSON object but a list"),
    ],
)
def test_a_value_without_a_faithful_form_is_refused(value: object, reason: str) -> None:
    """InvalidPayload says why and where."""
    with pytest.raises(InvalidPayload, match=reason) as caught:
        encode(value, "value")

    assert isinstance(caught.value, Refused)


def test_the_deepest_and_the_longest_value_that_fits_is_taken() -> None:
    """The limits are the last values that pass, for what is built here and for what comes as text."""
    limits = Limits(size=100, depth=3, items=8)
    deep, wide, long = {"a": [[1]]}, {"a": [1] * 6}, {"a": "x" * 92}

    for tree in (deep, wide, long):
        assert parse(dump(tree, "v", limits), "v", limits) == tree
    for tree in ({"a": [[[1]]]}, {"a": [1] * 7}, {"a": "x" * 93}):
        with pytest.raises(InvalidPayload):
            dump(tree, "v", limits)
        with pytest.raises(InvalidPayload):
            parse(dump(tree, "v"), "v", limits)


def test_a_payload_over_the_limit_tells_its_size_in_bytes() -> None:
    """Bytes count, not characters."""
    with pytest.raises(PayloadTooLarge) as caught:
        encode(Open("ü" * 50), "value", Limits(size=100))

    assert (caught.value.size, caught.value.limit) == (112, 100)


@pytest.mark.parametrize("value", [3, "text", None, [1], {"a": 1}, Point])
def test_what_is_no_instance_of_a_payload_class_is_a_definition_error(value: object) -> None:
    """A bare dict or number has no class that rows could name."""
    with pytest.raises(DefinitionError, match="is no dataclass, msgspec Struct or pydantic model"):
        encode(value, "value")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ('{"a": 1,}', "is not JSON"),
        ("{'a': 1}", "is not JSON"),
        ('{"a": 01}', "is not JSON"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": -Infinity}', "-Infinity is no JSON number"),
        ('{"a": 1e400}', "inf is no JSON number"),
        ('{"a": -1e400}', "-inf is no JSON number"),
        ('{"a": "\\u0000"}', "NUL in a string"),
        ('{"\\u0000": 1}', "NUL in a string"),
        ('{"a": "\\ud800"}', "a lone surrogate"),
        ('{"a": "\ud800"}', "is not UTF-8"),
        (b'{"a": "\xff"}', "is not UTF-8"),
        ('\ufeff{"a": 1}', "is not JSON"),
        ('{"a": 1, "a": 1}', "a key stands there twice"),
        ('{"a": [{"b": 1, "b": 2}]}', "a key stands there twice"),
        ('{"a": ' + "1" * 101 + "}", "an integer of more than 100 digits"),
        ('{"a": ' + "1" * 5000 + "}", "is not JSON"),
        ('{"a": ' + "[" * 32 + "]" * 32 + "}", "is nested deeper than 32"),
        ("[" * 60_000, "is nested deeper than 32"),
        ("[" * 100_000, "has 100000 bytes, the limit is 65536"),
        ('{"a":' * 10_000, "is nested deeper than 32"),
        ("[1]", "must be a JSON object, not list"),
        ("3", "must be a JSON object, not int"),
        ("null", "must be a JSON object, not NoneType"),
        ('"{}"', "must be a JSON object, not str"),
    ],
)
def test_text_that_nobody_vouches_for_is_refused(text: str | bytes, reason: str) -> None:
    """InvalidPayload, whatever is wrong with it."""
    with pytest.raises(InvalidPayload, match=reason):
        parse(text, "input")


def test_brackets_in_a_string_are_no_nesting() -> None:
    """Depth is counted outside strings, escaped quotes included."""
    text = '{"a": "' + "[" * 100 + '\\"' + "{" * 100 + '\\\\"}'

    assert parse(text, "input") == {"a": "[" * 100 + '"' + "{" * 100 + "\\"}


def test_a_class_that_refuses_its_fields_refuses_the_payload() -> None:
    """Whatever `__post_init__` or a validator raises, the answer is InvalidPayload."""
    with pytest.raises(InvalidPayload, match="does not fit Strict"):
        decode(Member(Strict), '{"n": -1}', "value")


@pytest.mark.parametrize("name", COLLIDING)
def test_numbers_of_one_hash_are_refused_before_anything_hashes_them(name: str) -> None:
    """Such a set takes time by the square of its size; the text is refused while it is still text."""
    event = read_of(COLLIDING[name])

    assert isinstance(event, InvalidPayload)
    assert re.fullmatch(r"event Hashed holds \d{4} numbers of one hash", str(event))


def test_numbers_that_only_look_alike_are_taken() -> None:
    """One number a thousand times is one member, and a thousand large numbers have a thousand hashes."""
    same, large = [str(PRIME)] * 1_000, [str(10**20 + n) for n in range(1_000)]

    assert read_of(json.dumps({"decimals": same})) == Hashed(decimals=frozenset({Decimal(PRIME)}))
    assert read_of(json.dumps({"decimals": large})) == Hashed(decimals=frozenset(map(Decimal, large)))


def test_words_of_hexadecimal_letters_are_no_numbers() -> None:
    words = [f"facade-decade-{n:010}-" for n in range(1_000)]

    assert encode(Open(words), "value") == json.dumps({"value": words}, separators=(",", ":"))


def read_of(text: str) -> object:
    """The event Hashed that `text` holds, or how it was refused."""
    try:
        return read_input(target(), "event", "Hashed", text)
    except Refused as refusal:
        return refusal


@pytest.mark.parametrize(
    "text",
    [
        '{"' + "k" * 60_000 + '": 1}',
        '{"value": {"' + "k" * 60_000 + '": [[NaN]]}}',
        '{"value": {"' + "k" * 60_000 + '": "\\u0000"}}',
        "{" + ",".join(f'"key{n:05}":1' for n in range(4_500)) + "}",
    ],
)
def test_a_refusal_does_not_repeat_the_payload(text: str) -> None:
    """Its message goes into logs and answers."""
    with pytest.raises(InvalidPayload) as caught:
        read_input(target(), "event", "Open", text)

    assert len(str(caught.value)) < 400


def test_a_model_with_thousands_of_errors_only_counts_them() -> None:
    """Writing each of them out takes longer than finding them."""
    with pytest.raises(InvalidPayload, match=r"does not fit Either: 29700 validation errors$"):
        read_input(target(), "event", "Either", json.dumps({"many": ["x"] * 9_900}))


def test_the_size_is_looked_at_before_anything_else() -> None:
    """What is over the limit is not even known to be UTF-8."""
    with pytest.raises(PayloadTooLarge) as caught:
        parse(b"\xff" * 70_000, "input")

    assert caught.value.size == 70_000


@settings(max_examples=2_000, derandomize=True, deadline=None, database=None)
@example("[" * 100_000)
@example('{"a":' * 13_000)
@example('{"a": 1e400, "a": "\\ud800\\u0000"}')
@example(b"\xff\xfe{}")
@given(TEXTS)
def test_parsing_gives_a_value_or_refuses_and_nothing_else(text: str | bytes) -> None:
    """Whatever comes in: an object that encodes again to something equal, or InvalidPayload."""
    try:
        tree = parse(text, "input")
    except InvalidPayload:
        return
    assert parse(dump(tree, "input"), "input") == tree


FIELDS: dict[str, Any] = {
    "name": st.text(max_size=3) | st.integers() | st.none(),
    "at": st.dictionaries(
        st.sampled_from(["x", "y", "z"]), st.integers() | st.floats() | st.text(max_size=2)
    ),
    "amount": st.sampled_from(["1.5", "NaN", "1e999999999", "", "x"]) | st.integers() | st.floats(),
    "firstName": st.text(max_size=3) | st.booleans(),
    "share": st.floats() | st.text(max_size=2),
    "n": st.integers(-(10**101), 10**101),
    "more": st.none(),
}


@settings(max_examples=2_000, derandomize=True, deadline=None, database=None)
@given(
    name=st.sampled_from(["Packed", "Aliased", "Model", "Strict", "Nowhere"]),
    tree=st.fixed_dictionaries({}, optional=FIELDS),
)
def test_reading_input_gives_an_event_or_refuses_and_nothing_else(name: str, tree: dict[str, object]) -> None:
    """Well-formed JSON of any shape: an event that encodes, or one of the refusals."""
    m = Machine("m", states=Point, events=Packed | Aliased | Model | Strict)
    try:
        text = dump(tree, "input")
        event = read_input(m, "event", name, text)
    except Refused:
        return
    assert decode(m.events[name], encode(event, "event"), "event") == event


@settings(max_examples=2_000, derandomize=True, deadline=None, database=None)
@given(SENT)
def test_whatever_is_sent_gives_an_event_or_one_refusal(sent: tuple[str, str | bytes]) -> None:
    """As `fsm send` reads it. `python -m benchmarks fuzz` sends many more, and times each."""
    check_one(*sent)


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_bomb_goes_off(bomb: str) -> None:
    """Each one as each event."""
    for name in EVENTS:
        check_one(name, BOMBS[bomb])


def check_one(name: str, text: str | bytes) -> None:
    m = target()
    try:
        event = read_input(m, "event", name, text)
        again = encode(
            event, "event"
        )  # a value that fits its type may still be too big when it is written out
    except Refused:
        return
    assert decode(m.events[name], again, "event") == event
