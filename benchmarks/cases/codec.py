"""A state to JSON and back, as the store does it, against msgspec and json with nothing checked.

The store's round trip refuses what JSON or jsonb cannot hold faithfully, bounds size, depth and number of values, and
proves that the text comes back as its own class; the peers only write and read.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from benchmarks.frame import Options, Row, Target, Work, interleaved, microseconds
from fsm_core import Machine
from fsm_core.codec import decode_named, encode
from fsm_core.registry import AnyMachine

TARGET = Target(most=10)


@dataclass(frozen=True)
class Order:
    id: UUID
    customer: str
    total: int
    share: float
    paid: bool
    at: datetime
    lines: tuple[str, ...]
    note: str | None
    tags: dict[str, int]
    price: Decimal


class Packed(msgspec.Struct, frozen=True):
    id: UUID
    customer: str
    total: int
    share: float
    paid: bool
    at: datetime
    lines: tuple[str, ...]
    note: str | None
    tags: dict[str, int]
    price: Decimal


FIELDS: dict[str, Any] = {
    "id": UUID(int=2**127 + 1),
    "customer": "Ada Lovelace",
    "total": 4200,
    "share": 0.25,
    "paid": True,
    "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "lines": ("tea", "milk", "bread"),
    "note": None,
    "tags": {"gift": 1, "express": 2},
    "price": Decimal("19.90"),
}

machine = Machine("bench", states=Order | Packed, events=Order)


def run(options: Options) -> Iterator[Row]:
    """The rows."""
    order, packed = Order(**FIELDS), Packed(**FIELDS)
    took = interleaved(
        {
            "dataclass": round_trip(machine, order),
            "struct": round_trip(machine, packed),
            "msgspec": by_msgspec(order),
            "json": by_json(order),
            "encode": encoding(order),
            "decode": decoding(machine, order),
        },
        times=options.size(5_000),
        rounds=options.size(21),
    )
    yield microseconds("round trip, dataclass", took["dataclass"], "msgspec", took["msgspec"], TARGET)
    yield microseconds("round trip, Struct", took["struct"], "msgspec", took["msgspec"], TARGET)
    yield microseconds("round trip, dataclass", took["dataclass"], "json", took["json"])
    yield microseconds("encode alone", took["encode"], "msgspec", took["msgspec"])
    yield microseconds("decode alone", took["decode"], "msgspec", took["msgspec"])


def round_trip(known: AnyMachine, state: object) -> Work:
    """Encode and decode, as one advance of the store does."""
    name = type(state).__name__

    def work(times: int) -> None:
        for _ in range(times):
            decode_named(known, "state", name, encode(state, "state"))

    assert decode_named(known, "state", name, encode(state, "state")) == state
    return work


def encoding(state: object) -> Work:
    """Only there."""

    def work(times: int) -> None:
        for _ in range(times):
            encode(state, "state")

    return work


def decoding(known: AnyMachine, state: object) -> Work:
    """Only back."""
    name, text = type(state).__name__, encode(state, "state")

    def work(times: int) -> None:
        for _ in range(times):
            decode_named(known, "state", name, text)

    return work


def by_msgspec(state: Order) -> Work:
    """The quickest there is: typed, nothing else checked."""
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Order)

    def work(times: int) -> None:
        for _ in range(times):
            decoder.decode(encoder.encode(state))

    return work


def by_json(state: Order) -> Work:
    """The standard library, with the conversions that one writes by hand."""

    def work(times: int) -> None:
        for _ in range(times):
            tree = json.loads(json.dumps(asdict(state), default=str))
            made = {**tree, "id": UUID(tree["id"]), "at": datetime.fromisoformat(tree["at"])}
            Order(**{**made, "lines": tuple(tree["lines"]), "price": Decimal(tree["price"])})

    return work
