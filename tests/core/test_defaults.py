"""A field that was left out has its default, and is written with it: from the shell and from Python an event is the same."""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from fsm_core import Machine
from fsm_core.codec import decode_named, encode, read_input
from fsm_core.inputs import digest

T = TypeVar("T")


@dataclass(frozen=True)
class Inner:
    n: int = 5
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slotted:
    n: int = 5
    inner: Inner = field(default_factory=Inner)


class Struct(msgspec.Struct, frozen=True):
    inner: Inner = Inner()


@dataclass(frozen=True)
class Flat:
    a: int
    b: str = "z"


@dataclass(frozen=True)
class Deep:
    inner: Inner
    many: list[Inner]
    named: dict[str, Inner]
    maybe: Inner | None = None
    slotted: Slotted = field(default_factory=Slotted)
    struct: Struct = field(default_factory=Struct)


@dataclass(frozen=True)
class Tree:
    n: int = 1
    left: "Tree | None" = None


@dataclass(frozen=True)
class Page(Generic[T]):
    item: T
    number: int = 1


@dataclass(frozen=True)
class Idle:
    pass


machine = Machine("m", states=Idle, events=Flat | Deep | Tree | Page[Inner])


@pytest.mark.parametrize(
    ("name", "short", "value"),
    [
        ("Flat", '{"a":1}', Flat(1)),
        (
            "Deep",
            '{"inner":{},"many":[{},{"n":6}],"named":{"x":{}},"maybe":{},"slotted":{"inner":{}},"struct":{"inner":{}}}',
            Deep(Inner(), [Inner(), Inner(6)], {"x": Inner()}, Inner()),
        ),
        ("Tree", '{"left":{"left":{}}}', Tree(1, Tree(1, Tree()))),
        ("Page", '{"item":{}}', Page(Inner())),
    ],
)
def test_what_was_left_out_is_written_with_its_default(name: str, short: str, value: Any) -> None:
    whole = encode(value, "event")

    for read in (decode_named, read_input):
        event = read(machine, "event", name, short)
        assert event == value
        assert encode(event, "event") == whole
        assert digest(name, encode(event, "event")) == digest(name, whole)


def test_a_generic_class_is_read_as_it_was_declared() -> None:
    """Not only as far as its class goes: what stands for the type variable is typed too."""
    page = decode_named(machine, "event", "Page", '{"item":{"n":7},"number":2}')
    assert page == Page(Inner(7), 2)
    assert machine.event_name(page) == "Page"
