"""Where a machine lives: rendezvous hashing of the root of its key. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeAlias

from fsm_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

Server: TypeAlias = tuple[str, int, str]
"""A database, as a connection tells it: host, port, name."""


@dataclass(frozen=True)
class Places:
    """The shards by name, and those that there were before, the latest first.

    A machine's place is told by the root of its key, which is what comes before the first `/`: so a child, whose key is
    `<parent's key>/<seq>.<idx>`, lives with its parent, and so does everything else that is named `<key>/...`, of whatever machine.
    Each shard draws a number for each root; the highest wins (rendezvous hashing, Thaler and Ravishankar 1998). A new shard takes its
    part of the *new* keys: for one that was placed before, the places it had then are looked at, too.

    Raises ConfigurationError: no shard, or a former one that is not there any more.
    """

    shards: tuple[str, ...]
    former: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.shards or any(not names for names in self.former):
            raise ConfigurationError("there is no shard; give at least one")
        if gone := {name for names in self.former for name in names} - set(self.shards):
            raise ConfigurationError(
                f"former shards are not there any more: {', '.join(sorted(gone))}; their machines could not be found"
            )

    def home(self, key: str) -> str:
        """Where a machine of this key is born."""
        return _winner(key, self.shards)

    def candidates(self, key: str) -> tuple[str, ...]:
        """Where it may live: at home, or where a former set of shards had placed it, the latest first."""
        return tuple(dict.fromkeys(_winner(key, names) for names in (self.shards, *self.former)))


def places(shards: Iterable[str], former: Iterable[Collection[str]]) -> Places:
    """As they are given to a store."""
    return Places(tuple(shards), tuple(tuple(names) for names in former))


def root(key: str) -> str:
    """What says where a machine lives: its key up to the first slash."""
    return key.partition("/")[0]


def elsewhere(key: str, names: Collection[str]) -> str:
    """What is wrong with a `session`."""
    return f"{key!r} lives on shard {' or '.join(sorted(names))}, and session= is a transaction of another database"


def _winner(key: str, names: Sequence[str]) -> str:
    return max(
        names, key=lambda name: (blake2b(f"{name}\0{root(key)}".encode(), digest_size=8).digest(), name)
    )
