"""What is equal, and what differs: states field by field, rows by what they mean.

jsonb reorders keys and rewrites numbers, so "equal" means decoded by type and encoded again, never the bytes of a column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeGuard, TypeVar

import msgspec

from fsm_core.audit.replaying import GENEROUS, nearest, state_at, steps
from fsm_core.codec import decode_named, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsm_core.audit.log import Log
    from fsm_core.audit.replaying import Reader
    from fsm_core.records import Snapshot
    from fsm_core.registry import AnyMachine

S = TypeVar("S")


class FieldChange(NamedTuple):
    """One field that differs. `path` leads to it ("cart.items[2]"), and is empty for the state's own class.

    An added one has no `before`, a removed one no `after`: those are None.
    """

    path: str
    kind: Literal["added", "removed", "changed"]
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class Diff(Generic[S]):
    """Two states of one machine. changes: of the fields. actions: what the events in between emitted, as values, in order."""

    before: Snapshot[S]
    after: Snapshot[S]
    changes: tuple[FieldChange, ...]
    actions: tuple[object, ...]


def diff(log: Log, from_seq: int, to_seq: int, reader: Reader) -> Diff[Any]:
    """What differs between the states right after two events; they may be given in either order.

    Raises EventNotFound, ReplayFailed, UnknownMachine.
    """
    before, after = state_at(log, from_seq, reader), state_at(log, to_seq, reader)
    first, last = sorted((from_seq, to_seq))
    emitted = [
        action
        for step in steps(log.upto(last), reader, nearest(log, first))
        if step.entry.seq > first
        for action in step.decision().actions
    ]
    return Diff(before, after, tuple(of_states(before.state, after.state)), tuple(emitted))


def of_states(before: object, after: object) -> Iterator[FieldChange]:
    """What differs between two states; if they are of two classes, that comes first, with an empty path."""
    if type(before) is not type(after):
        yield FieldChange("", "changed", type(before).__name__, type(after).__name__)
    yield from changes(tree(before), tree(after))


def changes(before: object, after: object, path: str = "") -> Iterator[FieldChange]:
    """The fields that differ between two JSON values, in order: those of objects by name, those of lists by place."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in {**before, **after}:
            inner = f"{path}.{name}" if path else str(name)
            yield from _change(inner, _Side(before, name), _Side(after, name))
    elif _is_list(before) and _is_list(after):
        for place in range(max(len(before), len(after))):
            yield from _change(f"{path}[{place}]", _Side(before, place), _Side(after, place))
    elif not same(before, after):
        yield FieldChange(path, "changed", before, after)


def same(one: object, other: object) -> bool:
    """Whether two JSON values are equal: numbers by their value, so that 1e2 is 100; true is not 1."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if _is_list(one) and _is_list(other):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def tree(value: object) -> object:
    """A state or an action as JSON."""
    return msgspec.json.decode(encode(value, type(value).__name__, GENEROUS))


def canonical(machine: AnyMachine, role: str, name: str, text: str, version: int) -> str:
    """What `text` (a state, event or action called `name`, written by `version`) says, in its one form.

    Raises UnknownType, InvalidPayload.
    """
    value = decode_named(machine, role, name, text, version)
    return f"{type(value).__name__} {encode(value, role, GENEROUS)}"


class _Side(NamedTuple):
    """A place in one of two values that are compared; it may be empty."""

    whole: Any
    place: Any

    @property
    def there(self) -> bool:
        return self.place in self.whole if isinstance(self.whole, Mapping) else self.place < len(self.whole)

    @property
    def value(self) -> object:
        return self.whole[self.place] if self.there else None


def _change(path: str, before: _Side, after: _Side) -> Iterator[FieldChange]:
    if before.there and after.there:
        yield from changes(before.value, after.value, path)
    else:
        yield FieldChange(path, "removed" if before.there else "added", before.value, after.value)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str)
