"""Text that nobody vouches for, as an attacker or a broken client would send it: strategies, and bombs made by hand."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

import pydantic
from hypothesis import strategies as st

from fsm_core import Machine
from fsm_core.codec import field_names
from fsm_core.registry import AnyMachine
from tests.core.shapes import Aliased, Everything, Model, Open, Packed, Point, Strict

PRIME = 2**61 - 1
"""Python's hash of a number is the number modulo this one."""


@dataclass(frozen=True)
class Hashed:
    """Fields that hash what they are given, by number."""

    by_number: dict[int, int] = field(default_factory=dict)
    numbers: frozenset[int] = frozenset()
    decimals: frozenset[Decimal] = frozenset()
    ids: frozenset[UUID] = frozenset()


class Either(pydantic.BaseModel, frozen=True):
    """A union: each wrong element is wrong several times."""

    many: list[Model | Point | int] = []


def target() -> AnyMachine:
    """A machine whose events are of every kind."""
    events = Open | Packed | Aliased | Model | Strict | Everything | Hashed | Either
    return Machine("fuzzed", states=Point, events=events)


def nested(opening: str, closing: str, depth: int) -> str:
    return opening * depth + "1" + closing * depth


def one_hash(field_name: str, write: Callable[[int], str], count: int = 2_300) -> str:
    """As many numbers of one hash as `count`, each written by `write`."""
    return f'{{"{field_name}":[{",".join(write(n * PRIME) for n in range(1, count))}]}}'


COLLIDING: dict[str, str] = {
    "integers of one hash": one_hash("numbers", str),
    "decimals of one hash": one_hash("decimals", '"{}"'.format),
    "uuids of one hash": one_hash("ids", lambda n: f'"{UUID(int=n)}"', 1_600),
    "uuids without dashes": one_hash("ids", lambda n: f'"{UUID(int=n).hex}"', 1_800),
    "keys of one hash": '{"by_number":{' + ",".join(f'"{n * PRIME}":1' for n in range(1, 2_200)) + "}}",
    "escaped digits of one hash": one_hash("decimals", lambda n: f'"\\u003{str(n)[0]}{str(n)[1:]}"', 1_900),
}  # fmt: skip
"""Each fits the size limit, and would take its set or dict long to build."""

BOMBS: dict[str, str | bytes] = {
    **COLLIDING,
    "lists in lists": nested("[", "]", 30_000),
    "objects in objects": nested('{"a":', "}", 9_000),
    "brackets that never close": "[" * 65_000,
    "far too long": "[" * 5_000_000,
    "just deep enough": '{"value":' + nested("[", "]", 31) + "}",
    "one level too deep": '{"value":' + nested("[", "]", 32) + "}",
    "wide": '{"value":[' + ",".join("1" * 9_990) + "]}",
    "too wide": '{"value":[' + ",".join("1" * 20_000) + "]}",
    "empty lists": '{"value":[' + "[]," * 9_000 + "[]]}",
    "many keys": "{" + ",".join(f'"key{n:05}":1' for n in range(4_500)) + "}",
    "many keys, twice": "{" + ",".join(f'"{n}":1' for n in (*range(3_000), *range(3_000))) + "}",
    "a long key": '{"' + "k" * 65_000 + '":1}',
    "a long key with NUL": '{"' + "k" * 65_000 + '\\u0000":1}',
    "a long string": '{"value":"' + "x" * 65_000 + '"}',
    "escaped quotes": '{"value":"' + '\\"' * 32_000 + '"}',
    "escaped snow": '{"value":"' + "\\u2603" * 10_000 + '"}',
    "lone surrogates": '{"value":"' + "\\ud800" * 10_000 + '"}',
    "a huge integer": '{"value":' + "9" * 65_000 + "}",
    "huge integers": '{"value":[' + ",".join(["9" * 4_299] * 15) + "]}",
    "integers of 100 digits": '{"value":[' + ",".join(["9" * 100] * 640) + "]}",
    "a long fraction": '{"value":0.' + "1" * 65_000 + "}",
    "a huge exponent": '{"value":1e' + "9" * 65_000 + "}",
    "infinite": '{"value":[1e400,-1e400,NaN,Infinity]}',
    "decimals with huge exponents": '{"decimals":[' + ",".join(f'"{n}e{10**17 + n}"' for n in range(1, 2_500)) + "]}",
    "a thousand spellings of one": '{"decimals":[' + ",".join(f'"1.{"0" * n}"' for n in range(350)) + "]}",
    "all wrong": '{"many":[' + ",".join(['"x"'] * 9_900) + "]}",
    "all almost right": '{"many":[' + ",".join(['{"name":3}'] * 4_900) + "]}",
    "escapes of other formats": json.dumps({"value": ["$ref", "$eval", {"$type": "$gt", "__class__": "os.system", "$": "$$"}]}),
    "no UTF-8": b'{"value":"\xff\xfe\x80"}',
    "no UTF-8, long": b'{"value":"' + b"\xc3" * 60_000 + b'"}',
    "UTF-16": '{"value":1}'.encode("utf-16"),
    "a byte order mark": '\ufeff{"value":1}',
    "a raw surrogate": '{"value":"\ud800"}',
    "a raw NUL": '{"value":"\0"}',
    "nothing": "",
}  # fmt: skip
"""Made by hand, each against one thing that could go wrong; some are sound."""

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**101), 10**101)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["1e400", "NaN", "$ref", "\0", "\ud800", "2026-02-30", "P1D", "1" * 5_000])
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)
FIELDS = [
    "value", "name", "at", "amount", "firstName", "when", "price", "share", "n", "many", "maybe", "by_number", "numbers",
    "decimals", "ids", "x", "y", "free", "$ref",
]  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from(FIELDS), TREES, max_size=4)

TEXTS: st.SearchStrategy[str | bytes] = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=200),
    st.text(alphabet='{}[]":,0123456789.eE+-\\u0ntfaN \n', max_size=200),
    st.tuples(st.sampled_from(["[", '{"a":', '["', "[{", '"\\']), st.integers(1, 100_000)).map(
        lambda p: p[0] * p[1]
    ),
    TREES.map(lambda tree: repr(tree).replace("'", '"').replace("None", "null")),
    OBJECTS.map(json.dumps),
    OBJECTS.map(lambda tree: json.dumps(tree, ensure_ascii=False)),
    OBJECTS.map(json.dumps).flatmap(lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut])),
    st.sampled_from(list(BOMBS.values())),
)
"""What may come instead of a payload: noise, half of one, one that is wrong inside, a bomb."""


def _fitting(name: str) -> st.SearchStrategy[tuple[str, str | bytes]]:
    """Objects with fields that the event has."""
    fields = field_names(target().events[name].cls)
    return st.dictionaries(st.sampled_from(fields), TREES, max_size=4).map(
        lambda tree: (name, json.dumps(tree))
    )


EVENTS = sorted(target().events)
SENT = st.tuples(st.sampled_from(EVENTS), TEXTS) | st.sampled_from(["Open", *EVENTS]).flatmap(_fitting)
"""The name of an event of `target()`, and what may come as its payload."""
